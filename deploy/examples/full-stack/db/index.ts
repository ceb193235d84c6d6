import { desc, eq, sql } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { Pool } from 'pg';
import * as clerk from './clerk';
import { notes } from './schema';

const pool = new Pool({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 3000 });
// An idle connection that Postgres closes is replaced by the next query.
pool.on('error', (err) => console.error(`postgres: ${err.message}`));
const db = drizzle(pool);

/** What the store knows of a user; nothing before the webhook has come. */
export async function user(id: string) {
  const { name, banned, deleted_at } = clerk.users;
  const [row] = await db.select({ name, banned, deleted_at }).from(clerk.users).where(eq(clerk.users.id, id));
  return row;
}

export function latestNotes() {
  return db
    .select({ id: notes.id, body: notes.body, author: clerk.usersLive.name })
    .from(notes)
    .leftJoin(clerk.usersLive, eq(clerk.usersLive.id, notes.author_id))
    .orderBy(desc(notes.id))
    .limit(20);
}

/** Holds also before the author's webhook: ensure_user makes the row that the foreign key needs. */
export function addNote(author: string, body: string) {
  return db.insert(notes).values({ author_id: sql`clerk.ensure_user(${author})`, body });
}
