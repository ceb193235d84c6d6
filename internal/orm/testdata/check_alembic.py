"""Autogenerates with the service's models and filters, twice: first the
service's table and its foreign key, then nothing."""
import sys

sys.path[:0] = [".", "migrations"]
from alembic.autogenerate import compare_metadata, produce_migrations
from alembic.migration import MigrationContext
from alembic.operations import Operations
from filters import include_name, include_object
from models import metadata, order, orders
from sqlalchemy import create_engine, inspect, select

with create_engine(sys.argv[1].replace("postgres://", "postgresql+psycopg2://")).connect() as db:
    for schemas in (False, True):
        context = MigrationContext.configure(db, opts={
            "include_schemas": schemas, "include_name": include_name, "include_object": include_object, "target_metadata": metadata})
        found = [(d[0], str(d[1])) for d in compare_metadata(context, metadata)]
        want = [("add_table", "orders")] if not schemas else []
        assert found == want, (schemas, found)
        if not schemas:
            for op in produce_migrations(context, metadata).upgrade_ops.ops:
                Operations(context).invoke(op)
            keys = inspect(db).get_foreign_keys("orders")
            assert [(k["referred_schema"], k["referred_table"]) for k in keys] == [("clerk", "users")], keys
    db.execute(order("user_1"))
    assert db.execute(select(orders.c.user_id)).scalar() == "user_1"
