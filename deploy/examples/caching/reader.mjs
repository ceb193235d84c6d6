// The reader's side of the cache invalidations, to copy; with the package redis.
// Sets a key if no invalidation has come since its generation was read.
const store = `
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1`;

// A key with a brace has a hash tag of its own.
const generation = (key) => (key.includes("{") ? `${key}:generation` : `{${key}}:generation`);

// The value under a key, or what load returns.
export async function cached(redis, key, seconds, load) {
  const hit = await redis.get(key);
  if (hit !== null) return hit;
  const before = (await redis.get(generation(key))) ?? ""; // before the value is loaded
  const value = await load();
  await redis.eval(store, { keys: [key, generation(key)], arguments: [before, value, String(seconds)] });
  return value;
}
