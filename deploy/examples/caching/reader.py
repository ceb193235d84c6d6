"""The reader's side of the cache invalidations, to copy; with redis-py."""

# Sets a key if no invalidation has come since its generation was read.
STORE = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1"""


def generation(key):
    # A key with a brace has a hash tag of its own.
    return f"{key}:generation" if "{" in key else f"{{{key}}}:generation"


def cached(redis, key, seconds, load):
    """The value under a key, or what load returns. redis decodes responses."""
    hit = redis.get(key)
    if hit is not None:
        return hit
    before = redis.get(generation(key)) or ""  # before the value is loaded
    value = load()
    redis.eval(STORE, 2, key, generation(key), before, value, seconds)
    return value
