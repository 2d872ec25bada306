"""A LangGraph graph of one node that goes round, each superstep saved to SQLite before the next (durability="sync")."""

import itertools
import sqlite3
import sys
import time
from typing import TypedDict

from driver import result, serve
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class Interrupted(Exception):
    pass


class State(TypedDict):
    done: int
    steps: int
    last: str
    ends: bool


class Graph:
    def __init__(self, saver):
        builder = StateGraph(State)
        builder.add_node("step", self._step)
        builder.add_edge(START, "step")
        builder.add_conditional_edges("step", lambda state: END if self._at_end(state) else "step")
        self.graph = builder.compile(checkpointer=saver)
        self.numbers = itertools.count()
        self.arrived = 0.0

    def commit(self, steps):
        began = time.perf_counter()
        self._invoke({"done": 0, "steps": steps, "last": "", "ends": True}, f"run-{next(self.numbers)}", steps)
        return (time.perf_counter() - began) / steps

    def fill(self, steps):
        self._interrupt({"done": 0, "steps": steps, "last": "", "ends": False}, steps)

    def resume(self, steps):
        began = time.perf_counter()
        self._interrupt(None, steps)
        return self.arrived - began

    def _interrupt(self, given, steps):
        try:
            self._invoke(given, "long", steps)
        except Interrupted:
            return
        raise AssertionError("it went on")

    def _invoke(self, given, thread, steps):
        config = {"configurable": {"thread_id": thread}, "recursion_limit": steps + 10}
        self.graph.invoke(given, config, durability="sync")

    def _step(self, state):
        if state["done"] == state["steps"]:
            self.arrived = time.perf_counter()
            raise Interrupted
        return {"done": state["done"] + 1, "last": result()}

    def _at_end(self, state):
        return state["ends"] and state["done"] == state["steps"]


with SqliteSaver.from_conn_string(f"{sys.argv[1]}/graph.sqlite") as opened:
    opened.conn.execute("PRAGMA synchronous=FULL")
    serve(Graph(opened), "langgraph", "langgraph-checkpoint-sqlite", SQLite=sqlite3.sqlite_version)
