"""A loop over documents, a step each, what it has worked on and paid for: for the tests of both kinds of cursors."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

import agentcheckpoint as ac

worked: list[str] = []
paid: list[str] = []


@pytest.fixture(autouse=True)
def nothing_worked() -> None:
    worked.clear()
    paid.clear()


def embed(doc: str) -> str:
    paid.append(doc)
    return doc.upper()


def walk(
    url: str,
    docs: Iterable[str],
    die_in: str = "",
    *,
    key: Callable[[str], str] | None = str,
    ordered: bool = True,
    every: int = 1,
) -> None:
    """Goes through the documents that are not done, and dies in the body of one of them."""
    with ac.run("r", store=url) as run:
        for doc in run.cursor("index", docs, key=key, ordered=ordered, every=every):
            run.step("embed", embed, doc)
            if doc == die_in:
                raise KeyboardInterrupt
            worked.append(doc)
