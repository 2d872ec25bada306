"""Absurd on a Postgres of its own. Its worker is called by hand, so that nothing waits to be polled."""

import os
import subprocess
import sys
import time

import psycopg
from absurd_sdk import Absurd
from driver import result, serve


class Interrupted(Exception):
    pass


def make() -> str:
    return result()


class Tasks:
    def __init__(self, url):
        absurdctl = os.path.join(os.path.dirname(sys.executable), "absurdctl")
        subprocess.run([absurdctl, "init", "-d", url], check=True)
        connection = psycopg.connect(url, autocommit=True)
        self.version = connection.info.parameter_status("server_version")
        self.short, self.long = Absurd(connection, "short"), Absurd(connection, "long")
        self.short.create_queue()
        self.long.create_queue()
        self.short.register_task("work")(self._work)
        self.long.register_task("work")(self._interrupted)
        self.taken = self.arrived = 0.0

    def commit(self, steps):
        self.short.spawn("work", {"steps": steps})
        self.short.work_batch()
        return self.taken / steps

    def fill(self, steps):
        self.long.spawn("work", {"steps": steps}, max_attempts=1000, retry_strategy={"kind": "none"})
        self.long.work_batch()

    def resume(self, steps):
        began = time.perf_counter()
        self.long.work_batch()
        return self.arrived - began

    def _work(self, params, ctx):
        began = time.perf_counter()
        for _ in range(params["steps"]):
            ctx.step("step", make)
        self.taken = time.perf_counter() - began

    def _interrupted(self, params, ctx):
        for _ in range(params["steps"]):
            ctx.step("step", make)
        self.arrived = time.perf_counter()
        raise Interrupted


tasks = Tasks(sys.argv[1])
serve(tasks, "absurd-sdk", "psycopg", Postgres=tasks.version)
