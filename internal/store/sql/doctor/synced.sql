-- the store's own tables
select (select schema from given), 'the store''s tables have no policies: whoever may read one reads the rows of all organizations', 'set tenancy: true of the store in rollcall.yaml', true
where exists (select from concerned where synced) and not exists (select from concerned where synced and enabled)
union all
select name, case when enabled then 'row-level security isn''t forced' else 'has no row-level security, unlike the store''s other tables' end, 'rollcall store apply, or restart the store', false
from concerned where synced and not (enabled and forced) and exists (select from concerned where synced and enabled)
