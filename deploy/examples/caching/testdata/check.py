import json
import pathlib
import sys

import redis

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
sys.dont_write_bytecode = True
from reader import cached

r = redis.Redis.from_url(sys.argv[1], decode_responses=True)
other = redis.Redis.from_url(sys.argv[1])


def old_of(key):
    other.incr(key)
    return "old"


said = [
    cached(r, "user:1", 60, lambda: old_of("{user:1}:generation")),
    r.get("user:1"),
    cached(r, "user:1", 60, lambda: "new"),
    cached(r, "user:1", 60, lambda: "not asked"),
    cached(r, "{tag}:1", 60, lambda: old_of("{tag}:1:generation")),
    r.get("{tag}:1"),
]
print(json.dumps(said))
