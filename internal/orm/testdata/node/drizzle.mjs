export { is } from 'drizzle-orm';
export { getTableConfig, getViewConfig, PgTable, PgView } from 'drizzle-orm/pg-core';
