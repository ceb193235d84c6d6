// The orders service: an organization's orders, with the names of who made them
// from its own store. It trusts the gateway's headers, so only the gateway may
// reach it.
import { createServer } from 'node:http';
import pg from 'pg';

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 5000 });
db.on('error', (error) => console.error(error.message)); // of an idle connection; the pool dials anew

await db.query(`create schema if not exists orders;
  create table if not exists orders.orders (
    id bigint generated always as identity primary key, organization_id text not null,
    user_id text not null references orders_clerk.users (id), item text not null, refunded boolean not null default false)`);

const routes = {
  'GET /api/orders': ({ organization }) =>
    db.query(
      `select o.id, o.item, o.refunded, coalesce(u.name, 'somebody new') as by from orders.orders o
       left join orders_clerk.users_live u on u.id = o.user_id where o.organization_id = $1 order by o.id`,
      [organization],
    ),
  // It may come before the user's webhook: ensure_user holds the place.
  'POST /api/orders': ({ user, organization }, { item }) =>
    db.query(
      `with author as materialized (select orders_clerk.ensure_user($1))
       insert into orders.orders (organization_id, user_id, item) select $2, $1, $3 from author returning id, item`,
      [user, organization, item],
    ),
  'POST /api/refunds': ({ organization }, { order }) =>
    db.query('update orders.orders set refunded = true where id = $1 and organization_id = $2 returning id, refunded', [order, organization]),
};

async function answer(request) {
  const route = routes[`${request.method} ${new URL(request.url, 'http://orders').pathname}`];
  if (!route) return [404, { errors: [{ code: 'no-route', message: 'there is nothing here' }] }];
  const chunks = await request.toArray();
  let body = {};
  try {
    if (chunks.length) body = JSON.parse(Buffer.concat(chunks));
  } catch {
    return [422, { errors: [{ code: 'body', message: 'send JSON' }] }];
  }
  const who = { user: request.headers['x-clerk-user-id'], organization: request.headers['x-clerk-org-id'] };
  try {
    return [200, (await route(who, body)).rows];
  } catch (error) {
    if (/^2[23]/.test(error.code)) return [422, { errors: [{ code: 'body', message: 'look at what you sent' }] }];
    console.error(request.method, request.url, error.message);
    return [503, { errors: [{ code: 'unavailable', message: 'not just now; try again in a moment' }] }];
  }
}

createServer(async (request, response) => {
  const [status, body] = await answer(request);
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}).listen(Number(process.env.ORDERS_PORT ?? 9002), '127.0.0.1');
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
