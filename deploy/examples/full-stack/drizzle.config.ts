import { defineConfig } from 'drizzle-kit';

export default defineConfig({
  dialect: 'postgresql',
  schema: './db/schema.ts', // without clerk.ts: those tables are Rollcall's to make and to change
  out: './db/migrations',
  schemaFilter: ['public'],
});
