// The example's story in a real browser. Reads {rollcall, browser, database, data, shots} from
// stdin: two programs, the URL of an empty database as superuser, and two directories. make examples.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import pg from 'pg';
import { chromium } from 'playwright-core';

const { rollcall, browser, database, data, shots } = JSON.parse(readFileSync(0, 'utf8'));
const started = new Set();

function start(command, args, env) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 2, 2] });
  started.add(child);
  child.ended = new Promise((resolve) => child.on('exit', resolve)).then(() => started.delete(child));
  return child;
}

async function stop(child) {
  child.kill('SIGTERM');
  await child.ended;
}

async function until(what, ask) {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 100))) {
    if (await ask().catch(() => false)) return;
  }
  assert.fail(`not within 30 s: ${what}`);
}

async function sql(url, ...args) {
  const db = new pg.Client({ connectionString: url });
  await db.connect();
  try {
    return (await db.query(...args)).rows;
  } finally {
    await db.end();
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

/** rollcall dev --emulate: Rollcall and a Clerk. */
async function dev() {
  const child = start(rollcall, ['dev', '--emulate', '--data', data], { DATABASE_URL: database });
  const file = join(data, 'dev.env');
  await until('dev.env', async () => existsSync(file));
  const env = parseEnv(readFileSync(file, 'utf8'));
  const clerk = async (method, path, body) => {
    const answer = await fetch(env.CLERK_API_URL + path, {
      method, body: body && JSON.stringify(body), headers: { authorization: `Bearer ${env.CLERK_SECRET_KEY}`, 'content-type': 'application/json' },
    });
    assert(answer.ok, `${method} ${path}: ${answer.status} ${await answer.text()}`);
  };
  return { env, clerk, stop: () => stop(child) };
}

async function story(page, origin, stack) {
  const says = async (text) => (await page.locator('body').innerText()).includes(text);
  const reload = (text) => until(text, async () => { await page.goto(`${origin}/notes`); return says(text); });
  const shot = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
  const add = async (body) => {
    await page.getByRole('textbox').fill(body);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByText(body).waitFor();
  };
  const signUp = async (name) => {
    await page.getByRole('textbox').fill(name);
    await page.getByRole('button').click();
  };
  const failed = async () => {
    await page.getByText('Not just now').waitFor();
    assert.doesNotMatch(await page.locator('body').innerText(), /Error|\bat .*:\d+/);
  };

  // Signed out: the public page is for all, the protected one asks to sign in.
  await page.goto(origin);
  await page.getByRole('link').click();
  await page.waitForURL(/\/sign-in/);

  // The first write comes before the webhook, and holds.
  await stack.clerk('PUT', '/_emu/chaos', { delay: 1, delay_ms: 10_000 });
  await signUp('Ada');
  await page.getByText('a new user').waitFor();
  await add('Is anybody here?');
  assert(await says('somebody new'));
  const token = (await page.context().cookies()).find((cookie) => cookie.name === '__session').value;
  const { sub } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
  assert.deepEqual(await sql(database, 'select source from clerk.users where id = $1', [sub]), [{ source: 'stub' }]);
  await shot('before');
  await stack.clerk('PUT', '/_emu/chaos', {});
  await reload('Is anybody here? Ada');
  assert(await says('Signed in as Ada'));
  await shot('notes');

  // Banned with a token that is still good; also in a tab that shows the form.
  await stack.clerk('POST', `/v1/users/${sub}/ban`);
  await until('banned', async () => (await sql(database, 'select banned from clerk.users where id = $1', [sub]))[0].banned);
  await page.getByRole('textbox').fill('from an old tab');
  await page.getByRole('button', { name: 'Add' }).click();
  await page.getByText('Your account is suspended').waitFor();
  assert.equal((await sql(database, 'select from notes')).length, 1);
  await shot('banned');
  await stack.clerk('POST', `/v1/users/${sub}/unban`);
  await reload('Is anybody here? Ada');

  // Postgres down.
  const server = Object.assign(new URL(database), { pathname: '/postgres' }).href;
  const name = new URL(database).pathname.slice(1);
  await sql(server, `alter database "${name}" allow_connections false`);
  await sql(server, 'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name]);
  await page.goto(`${origin}/notes`);
  await failed();
  await shot('failed');
  await page.goto(origin);
  assert(await says('Anyone may see this page'));
  await sql(server, `alter database "${name}" allow_connections true`);
  await reload('Is anybody here? Ada');

  // Clerk and Rollcall down: who is signed in reads and writes.
  await stack.stop();
  await reload('Is anybody here? Ada');
  await add('All by myself');
  await page.goto(`${origin}/sign-in`);
  await signUp('Grace');
  await failed();
  stack = await dev();
  await stack.clerk('PATCH', `/v1/users/${sub}`, { first_name: 'Augusta' });
  await reload('All by myself Augusta');
  await stack.stop();
}

try {
  const generated = execFileSync(rollcall, ['store', 'schema', 'app', '--format', 'drizzle'], { env: { ...process.env, DATABASE_URL: database }, encoding: 'utf8' });
  assert.equal(readFileSync('db/clerk.ts', 'utf8'), generated, 'db/clerk.ts is not what rollcall makes: npm run schema');
  const drizzle = execFileSync('node_modules/.bin/drizzle-kit', ['generate'], { encoding: 'utf8' });
  assert.match(drizzle, /No schema changes/, 'db/migrations is behind db/schema.ts');
  execFileSync('npm', ['run', 'build'], { stdio: ['ignore', 2, 2], env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' } });

  const stack = await dev();
  const PORT = await freePort();
  const origin = `http://localhost:${PORT}`;
  start(process.execPath, ['start.mjs'], { ...stack.env, PORT, NEXT_TELEMETRY_DISABLED: '1' });
  await until(origin, async () => (await fetch(origin)).ok);
  const chrome = await chromium.launch({ executablePath: browser, args: ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost'] });
  try {
    await story(await chrome.newPage({ viewport: { width: 640, height: 400 } }), origin, stack);
  } finally {
    await chrome.close();
  }
} finally {
  await Promise.all([...started].map(stop));
}
