"""LangGraph's functional API: an entrypoint that calls a @task for each step, saved to SQLite behind its back."""

import itertools
import sqlite3
import sys
import time

from driver import result, serve
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task


class Interrupted(Exception):
    pass


@task
def make() -> str:
    return result()


class Tasks:
    def __init__(self, saver):
        self.work = entrypoint(checkpointer=saver)(self._work)
        self.numbers = itertools.count()
        self.arrived = 0.0

    def commit(self, steps):
        began = time.perf_counter()
        self._invoke({"steps": steps, "ends": True}, f"run-{next(self.numbers)}")
        return (time.perf_counter() - began) / steps

    def fill(self, steps):
        self._interrupt({"steps": steps, "ends": False})

    def resume(self, steps):
        began = time.perf_counter()
        self._interrupt(None)
        return self.arrived - began

    def _interrupt(self, given):
        try:
            self._invoke(given, "long")
        except Interrupted:
            return
        raise AssertionError("it went on")

    def _invoke(self, given, thread):
        self.work.invoke(given, {"configurable": {"thread_id": thread}}, durability="sync")

    def _work(self, given: dict) -> int:
        for _ in range(given["steps"]):
            make().result()
        self.arrived = time.perf_counter()
        if not given["ends"]:
            raise Interrupted
        return given["steps"]


with SqliteSaver.from_conn_string(f"{sys.argv[1]}/tasks.sqlite") as opened:
    opened.conn.execute("PRAGMA synchronous=FULL")
    serve(Tasks(opened), "langgraph", "langgraph-checkpoint-sqlite", SQLite=sqlite3.sqlite_version)
