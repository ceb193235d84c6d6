"""Makes and applies migrations for the service's models: they make its own
table, and nothing of Rollcall's."""
import io
import os
import sys
from urllib.parse import urlparse

import django
from django.conf import settings
from django.core.management import call_command

sys.path[:0] = ["."]
open("shop/__init__.py", "a").close()
url = urlparse(sys.argv[1])
settings.configure(
    INSTALLED_APPS=["shop"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", DATABASE_ROUTERS=["shop.routers.ClerkRouter"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username, "PASSWORD": url.password, "HOST": url.hostname, "PORT": url.port}})
django.setup()
from django.db import connection, transaction
from shop.models import ClerkUser, Order

call_command("makemigrations", "shop", verbosity=0)
sql = io.StringIO()
call_command("sqlmigrate", "shop", "0001", stdout=sql)
assert sql.getvalue().count("CREATE TABLE") == 1 and '"orders"' in sql.getvalue() and "CREATE SCHEMA" not in sql.getvalue(), sql.getvalue()
call_command("migrate", verbosity=0)
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute("select clerk.ensure_user(%s)", ["user_1"])
    Order.objects.create(user_id="user_1")
assert Order.objects.select_related("user").get().user.pk == "user_1"
try:
    ClerkUser(id="user_2").save()
except RuntimeError as e:
    assert "Clerk's" in str(e)
else:
    raise AssertionError("it was written")

# With a foreign key of Postgres's.
ClerkUser._meta.db_table = '"clerk"."users"'
Order._meta.get_field("user").db_constraint = True
with connection.schema_editor(collect_sql=True) as editor:
    editor.create_model(Order)
made = "\n".join(editor.collected_sql) + "\n".join(str(s) for s in editor.deferred_sql)
assert 'REFERENCES "clerk"."users" ("id") DEFERRABLE INITIALLY DEFERRED' in made, made
