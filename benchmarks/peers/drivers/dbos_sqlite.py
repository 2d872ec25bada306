"""DBOS with its database in a SQLite file, as it is without a Postgres."""

import sqlite3
import sys
import time

from dbos import DBOS, SetWorkflowID
from driver import result, serve

assert sqlite3.connect(":memory:").execute("pragma synchronous").fetchone() == (2,), "it leaves this to SQLite"
noted = {}


@DBOS.step()
def make() -> str:
    return result()


@DBOS.workflow()
def work(steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        make()
    return (time.perf_counter() - began) / steps


@DBOS.workflow()
def long(steps: int) -> None:
    began = time.perf_counter()
    for _ in range(steps):
        make()
    noted["taken"] = time.perf_counter() - began
    DBOS.cancel_workflow("long")


class Dbos:
    def commit(self, steps):
        return work(steps)

    def fill(self, steps):
        with SetWorkflowID("long"):
            self._interrupted(DBOS.start_workflow(long, steps))

    def resume(self, steps):
        return self._interrupted(DBOS.resume_workflow("long"))

    def _interrupted(self, handle):
        try:
            handle.get_result()
        except Exception as ended:
            assert "cancelled" in str(ended), ended
        return noted.pop("taken")


DBOS(config={"name": "peer", "system_database_url": f"sqlite:///{sys.argv[1]}/dbos.sqlite", "log_level": "ERROR"})
DBOS.launch()
serve(Dbos(), "dbos", SQLite=sqlite3.sqlite_version)
DBOS.destroy()
