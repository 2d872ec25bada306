"""Logs of runs with money in them, drawn at random: what a store might hold, without a store."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from agentcheckpoint.core.ledger import CostReport, fold_entries, logged_money, report
from agentcheckpoint.core.models import Birth, Closed, Failure, Intent, LedgerEntry, LogEntry, Opened, Usage
from agentcheckpoint.core.models import Failed as FailedStep

DAY = 86_400_000
TEXT = st.text(min_size=1, max_size=12)
HOSTILE = st.one_of(
    TEXT,
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            "</table><img src=x onerror=alert(1)>",
            "\" onmouseover='x'",
            "&lt;b&gt;",
            "]]></svg><style>*{display:none}</style>",
            "a\u202eb\x1b[31m\x00",
        ]
    ),
)
SLOTS = st.sampled_from(["plan", "plan#2", "fetch[https://a/b#2]", "answer/fetch[k]]]", "answer#2/fetch"])


@dataclass(frozen=True)
class Run:
    """A run's log, and what stands beside it."""

    id: str
    entries: tuple[LogEntry, ...]
    outside: tuple[LedgerEntry, ...]

    def report(self) -> CostReport:
        """What ``ac.get(...).cost`` says of it."""
        ends = [entry for entry in self.entries if isinstance(entry, Closed)]
        folded = fold_entries(logged_money(self.entries), self.outside)
        return report(folded, saved=sum(end.saved for end in ends), replayed=sum(end.replayed for end in ends))


USAGE = st.builds(
    Usage,
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**5),
    hosted_tools=st.dictionaries(st.sampled_from(["web_search", "files"]), st.integers(0, 3), max_size=2),
)


def entries(name: str, models: st.SearchStrategy[str] = TEXT) -> st.SearchStrategy[LedgerEntry]:
    """What may be said of an attempt; few ids, so that some are said of twice."""
    return st.builds(
        LedgerEntry,
        id=st.integers(0, 5).map(lambda n: f"{name}-{n}"),
        bill=st.sampled_from(["paid", "wasted", "unresolved", "not_billed"]),
        slot=SLOTS,
        model=st.none() | models,
        served=st.none() | models,
        usage=st.none() | USAGE,
        cost=st.none() | st.integers(0, 10**10),
        bound=st.none() | st.integers(0, 10**10),
        at=st.just(0) | st.integers(20_000 * DAY, 20_003 * DAY),
    )


@st.composite
def runs(draw: st.DrawFn, name: str, texts: st.SearchStrategy[str] = TEXT) -> Run:
    """A run of a few attempts, each with a few log entries."""
    log: list[LogEntry] = [Birth(id="birth", at=0, namespace="default", run=name)]
    agent = draw(st.none() | texts)
    for number in range(1, draw(st.integers(1, 3)) + 1):
        tags = draw(st.none() | st.lists(texts, max_size=3, unique=True).map(tuple))
        at = draw(st.integers(20_000 * DAY, 20_003 * DAY))
        log.append(Opened(id=f"o{number}", at=at, attempt=number, worker="w", agent=agent, tags=tags))
        for n in range(draw(st.integers(0, 3))):
            money = tuple(draw(st.lists(entries(name, texts), max_size=2)))
            id, slot = f"{number}.{n}", draw(SLOTS)
            if draw(st.booleans()):
                log.append(Intent(id=id, at=at, slot=slot, entries=money))
            else:
                log.append(FailedStep(id=id, at=at, slot=slot, error=Failure(type="E", message=""), entries=money))
        if draw(st.booleans()):
            saved, replayed = draw(st.integers(0, 10**9)), draw(st.integers(0, 4))
            log.append(Closed(id=f"c{number}", at=at, state="completed", saved=saved, replayed=replayed))
    return Run(name, tuple(log), tuple(draw(st.lists(entries(name, texts), max_size=2))))


def many_runs(texts: st.SearchStrategy[str] = TEXT) -> st.SearchStrategy[list[Run]]:
    """Up to four runs."""
    return st.integers(0, 4).flatmap(lambda n: st.tuples(*(runs(f"run-{i}", texts) for i in range(n)))).map(list)
