"""A transfer recorded in its own SQL transaction: kill it between the two commits, run it again, it happens once.

python examples/sql_step.py bank.db
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys

import agentcheckpoint as ac
from agentcheckpoint import sql


def make(bank: sqlite3.Connection) -> None:
    bank.execute("CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INT)")
    bank.execute("INSERT OR IGNORE INTO account VALUES ('ann', 100), ('bob', 0)")
    bank.commit()
    sql.create_table(bank)


def decide_amount() -> int:
    print("deciding")  # a model call, in an agent
    return 10


def transfer(bank: sqlite3.Connection, amount: int) -> int:
    print("transferring")
    bank.execute("UPDATE account SET balance = balance - ? WHERE name = 'ann'", (amount,))
    bank.execute("UPDATE account SET balance = balance + ? WHERE name = 'bob'", (amount,))
    return amount


def main() -> None:
    bank = sqlite3.connect(sys.argv[1])
    make(bank)
    if "DIE" in os.environ:  # as soon as the database has committed, before Redis hears of it
        bank.set_trace_callback(lambda statement: die_soon(bank) if statement == "COMMIT" else None)
    with ac.run("payment-7") as run:
        amount = run.step("amount", decide_amount)
        run.sql_finish("transfer", bank, transfer, amount)
    print(dict(bank.execute("SELECT name, balance FROM account")))


def die_soon(bank: sqlite3.Connection) -> None:
    from agentcheckpoint.sql import stepping

    bank.set_trace_callback(None)
    stepping.store_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
