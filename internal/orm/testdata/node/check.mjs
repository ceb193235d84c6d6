// Reads {dir, url}: a service's files, and a database that holds the store's
// schema. Prints what Prisma and Drizzle take the columns for, and what their
// migrations would do.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg';
import { buildSync } from 'esbuild';
import { is, getTableConfig, getViewConfig, PgTable, PgView } from './drizzle.mjs';
import pg from 'pg';

const { dir, url } = JSON.parse(readFileSync(0, 'utf8'));
const bin = (name, ...args) =>
  execFileSync(join(import.meta.dirname, 'node_modules/.bin', name), args, { cwd: dir, env: { ...process.env, DATABASE_URL: url }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
const read = (file) => readFileSync(join(dir, file), 'utf8');

// load bundles a TypeScript file of the service, and imports it.
async function load(file, external) {
  const out = join(dir, file.replaceAll('/', '_') + '.mjs');
  buildSync({ entryPoints: [join(dir, file)], outfile: out, bundle: true, format: 'esm', platform: 'node', external, alias: { 'prisma/config': join(import.meta.dirname, 'prisma-config.mjs') } });
  return import(out);
}

async function prisma() {
  const files = ['prisma/schema.prisma', 'prisma/clerk.prisma'].map((path) => ({ path, content: read(path) }));
  const wasm = createRequire(import.meta.url)('@prisma/prisma-schema-wasm');
  const dmmf = JSON.parse(wasm.get_dmmf(JSON.stringify({ prismaSchema: files.map((f) => [f.path, f.content]) })));
  const columns = {};
  for (const m of dmmf.datamodel.models) {
    for (const f of m.fields.filter((f) => f.kind === 'scalar')) {
      columns[`${m.schema}.${m.dbName ?? m.name}.${f.dbName ?? f.name}`] = [f.type + (f.isList ? '[]' : ''), f.nativeType?.[0] ?? '', f.isRequired].join(' ');
    }
  }

  process.chdir(dir); // prisma.config.ts reads its neighbours
  const config = (await load('prisma.config.ts', [])).default;
  const code = new URL('schema_engine_bg.wasm', import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg'));
  const { instance } = await WebAssembly.instantiate(readFileSync(code), { './schema_engine_bg.js': engine });
  engine.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
  const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg({ connectionString: url }));
  const migrate = await engine.SchemaEngine.new({ datamodels: files.map((f) => [f.path, f.content]) }, () => {}, adapter);
  const filters = { externalTables: config.tables.external, externalEnums: [] };
  const { stdout: first } = await migrate.diff({ from: { tag: 'empty' }, to: { tag: 'schemaDatamodel', files }, script: true, exitCode: null, filters });

  const db = new pg.Client(url);
  await db.connect();
  await db.query(`begin; ${first}; rollback`);
  await db.end();
  return { columns, first, shadow: config.migrations.initShadowDb };
}

async function drizzle() {
  bin('tsc', '--strict', '--noEmit', '--noUnusedLocals', '--skipLibCheck', '--types', '', '--module', 'nodenext', '--moduleResolution', 'bundler', '--module', 'esnext', '--target', 'es2022', 'src/db/order.ts');
  const columns = {};
  for (const relation of Object.values(await load('src/db/clerk.ts', ['drizzle-orm']))) {
    const config = is(relation, PgTable) ? getTableConfig(relation) : is(relation, PgView) ? getViewConfig(relation) : null;
    if (!config) continue;
    const list = Array.isArray(config.columns) ? config.columns : Object.values(config.selectedFields);
    const name = `${config.schema ?? 'public'}.${config.name}`;
    for (const c of list) columns[`${name}.${c.name}`] = [c.getSQLType(), c.notNull].join(' ');
  }
  bin('drizzle-kit', 'generate');
  const first = readdirSync(join(dir, 'drizzle')).filter((f) => f.endsWith('.sql')).map((f) => read('drizzle/' + f)).join('\n');
  bin('drizzle-kit', 'push');
  const db = new pg.Client(url);
  await db.connect();
  const { order, ordersWithUser } = await load('src/db/order.ts', ['drizzle-orm']);
  const { drizzle: connect } = await import('drizzle-orm/node-postgres');
  await order(connect(db), 'user_1');
  await db.query(`update clerk.users set name = 'Ada'`);
  const rows = await ordersWithUser(connect(db));
  await db.end();
  return { columns, first, then: bin('drizzle-kit', 'push'), rows };
}

const found = JSON.stringify({ prisma: await prisma(), drizzle: await drizzle() });
process.stdout.write(found, () => process.exit(0)); // not before all is through the pipe
