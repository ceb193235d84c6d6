-- What the last comparisons with Clerk found, and what they inferred. {schema} is replaced.

alter table {schema}.sync_status add column reconciled jsonb not null default '{}';
comment on column {schema}.sync_status.reconciled is
    'what the last comparisons with Clerk found, by pass (counts, recent, full): when it ended, and by resource how many were missing, stale and extra, and mended';

-- By which the writer finds, now and then, those that Clerk has shown alive.
create index tombstones_inferred on {schema}.tombstones (resource, id) where source = 'reconcile';
