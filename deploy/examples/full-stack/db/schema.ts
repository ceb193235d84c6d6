import { bigserial, pgTable, text, timestamp } from 'drizzle-orm/pg-core';
import * as clerk from './clerk';

export const notes = pgTable('notes', {
  id: bigserial({ mode: 'number' }).primaryKey(),
  author_id: text().notNull().references(() => clerk.users.id),
  body: text().notNull(),
  created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
});
