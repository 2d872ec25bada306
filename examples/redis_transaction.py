"""A withdrawal in the EXEC of its own checkpoint: run it as often as you like, it happens once.

python examples/redis_transaction.py
"""

from __future__ import annotations

import agentcheckpoint as ac


def withdraw(tx: ac.Transaction, amount: int) -> int:
    print("withdrawing")
    left = int(tx.read("GET", "balance") or 100) - amount
    tx.queue("SET", "balance", left)
    tx.queue("RPUSH", "withdrawals", amount)
    return left


def look(tx: ac.Transaction) -> int:
    return int(tx.read("LLEN", "withdrawals"))


def main() -> None:
    with ac.run("withdrawal-7") as run:
        left = run.transaction("withdraw", withdraw, 10)
    with ac.run() as run:
        print(f"{left} left after {run.transaction('look', look)} withdrawal(s)")


if __name__ == "__main__":
    main()
