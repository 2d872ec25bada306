"""Two endings of one run: a fork pays for its own ending alone.

    python examples/fork_compare.py
"""

from __future__ import annotations

import secrets

import agentcheckpoint as ac


def write(run_id: str, style: str) -> str:
    with ac.run(run_id) as run:
        facts = run.step(ac.Step("research", cost="0.04"), lambda: ["it is fast", "it keeps its data"])
        outline = run.step(ac.Step("outline", cost="0.01"), lambda found: " and ".join(found), facts)
        return run.step(ac.Step("draft", cost="0.02"), lambda text, how: f"{how}: {text}", outline, style)


def main() -> None:
    name = f"essay-{secrets.token_hex(4)}"
    print(write(name, "plainly"))
    print(str(ac.fork(name, after="outline", as_=f"{name}-b", dry_run=True)).splitlines()[0].split(": ")[1])
    ac.fork(name, after="outline", as_=f"{name}-b", override={"outline": "it is very fast"})
    print(write(f"{name}-b", "boldly"))
    for run_id in (name, f"{name}-b"):
        print(f"{run_id.removeprefix(name) or 'first'}: {ac.get(run_id).cost}")


if __name__ == "__main__":
    main()
