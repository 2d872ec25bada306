"""redis-py alone: a record and a result in one MULTI/EXEC, and both read back at once."""

import itertools
import json
import sys
import time

import redis
from driver import result, serve


class Bare:
    def __init__(self, url):
        self.client = redis.Redis.from_url(url)
        self.numbers = itertools.count()

    def commit(self, steps):
        return self._write(f"run-{next(self.numbers)}", steps) / steps

    def fill(self, steps):
        self._write("long", steps)

    def resume(self, steps):
        began = time.perf_counter()
        lines = [json.loads(line) for line in self.client.lrange("long:log", 0, -1)]
        results = {name: json.loads(result) for name, result in self.client.hgetall("long:results").items()}
        taken = time.perf_counter() - began
        assert len(lines) == len(results) == steps
        return taken

    def _write(self, run, steps):
        began = time.perf_counter()
        for n in range(steps):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.rpush(f"{run}:log", json.dumps({"id": n, "step": "step", "at": time.time()}))
            pipeline.hset(f"{run}:results", str(n), json.dumps(result()))
            pipeline.execute()
        return time.perf_counter() - began


serve(Bare(sys.argv[1]), "redis", "hiredis")
