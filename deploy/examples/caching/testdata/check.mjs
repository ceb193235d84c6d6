import { createClient } from "redis";
import { cached } from "../reader.mjs";

const redis = await createClient({ url: process.argv[2] }).connect();
const other = await createClient({ url: process.argv[2] }).connect();
const said = [];
said.push(await cached(redis, "user:1", 60, async () => (await other.incr("{user:1}:generation"), "old")));
said.push(await redis.get("user:1"));
said.push(await cached(redis, "user:1", 60, async () => "new"));
said.push(await cached(redis, "user:1", 60, async () => "not asked"));
said.push(await cached(redis, "{tag}:1", 60, async () => (await other.incr("{tag}:1:generation"), "old")));
said.push(await redis.get("{tag}:1"));
console.log(JSON.stringify(said));
await redis.close();
await other.close();
