-- What fills tables and columns that came when events had been applied already.
-- {schema} is replaced.

alter table {schema}.sync_status
    add column columns          text[],                       -- that the writer writes, table.column; null before it says so
    add column columns_key      bigint not null default 0,    -- made of columns
    add column columns_epoch    bigint not null default 0,    -- the position, as the writer moved it; where it differs, a release
    add column columns_position bigint not null default 0,    -- that doesn't say what it writes has moved it since
    add column columns_time     timestamptz,
    add column fill_epoch       bigint not null default 0,    -- the log that is read again; 0: whichever there is, as a whole
    add column fill_from        bigint not null default 0,    -- the range began behind this sequence,
    add column fill_position    bigint not null default 0,    -- it is read again up to here,
    add column fill_time        timestamptz,                  -- whose event was stored then,
    add column fill_to          bigint not null default 0,    -- and ends here
    add column fill_to_time     timestamptz,
    add column fill_since       timestamptz;                  -- when filling was found to be needed
comment on column {schema}.sync_status.incomplete is
    'tables and columns that came when events had been applied already, or that another writer left out; they are being filled from the log (fill_position of fill_to)';

update {schema}.sync_status set columns_epoch = epoch, columns_position = position, columns_time = position_time, fill_since = now();
