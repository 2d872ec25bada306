"""agentcheckpoint itself, as a process like the others."""

import itertools
import sys
import time
import warnings

from driver import result, serve

import agentcheckpoint as ac


def make() -> str:
    return result()


class Ours:
    def __init__(self, url):
        self.url = url
        self.numbers = itertools.count()

    def commit(self, steps):
        with ac.run(f"run-{next(self.numbers)}", store=self.url) as run:
            began = time.perf_counter()
            for _ in range(steps):
                run.step("step", make)
            return (time.perf_counter() - began) / steps

    def fill(self, steps):
        self.resume(steps)

    def resume(self, steps):
        opener = ac.run("long", store=self.url)
        began = time.perf_counter()
        run = opener.__enter__()
        for _ in range(steps):
            run.step("step", make)
        taken = time.perf_counter() - began
        opener.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        return taken


warnings.simplefilter("ignore")
serve(Ours(sys.argv[1]), "redis", "hiredis")
