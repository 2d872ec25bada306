"""Reading the ledgers of many runs, one after the other, without claiming any of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agentcheckpoint.core import ids
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.settling import priced_anew
from agentcheckpoint.core.spending import Chosen, Item, Spent, account
from agentcheckpoint.errors import (
    CheckpointCorrupt,
    CheckpointsLost,
    InvalidName,
    RunMisuse,
    RunNotFound,
    SchemaTooNew,
)
from agentcheckpoint.show.layout import plain
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.index import listed_runs
from agentcheckpoint.store.keys import index_key, kept_index_key
from agentcheckpoint.store.reading import kept_ledger, snapshot
from agentcheckpoint.store.store import Store
from agentcheckpoint.view import Address, address_of

Moment = datetime.datetime | datetime.date | None
"""A time with its zone, or a day in UTC; ``None``: no limit."""

MOST_NOTES = 20
"""How many runs that could not be read are named."""


@dataclass(slots=True)
class Survey:
    """The items of many runs, read one run at a time, and what could not be read.

    Attributes:
        where, namespace: whose runs.
        runs: which; one alone has to be there; ``None``: all that are listed.
        chosen: which items count.
        prices: what is priced anew by them.
        unread: how many runs could not be read.
        deleted: how many runs were deleted, and are counted by the ledgers that were kept of them.
        repriced: how many attempts cost something else by ``prices`` than is recorded.
    """

    where: Store
    namespace: str
    runs: str | Iterable[str] | None
    chosen: Chosen
    prices: Mapping[str, Price]
    unread: int = 0
    deleted: int = 0
    repriced: int = 0
    _notes: list[str] = field(default_factory=list[str])

    def __iter__(self) -> Iterator[list[Item]]:
        """The items of each run; empty if none of them counts."""
        if isinstance(self.runs, str):
            yield self._items(address_of(self.runs, self.namespace))
            return
        seen: set[str] = set()
        for run_id in self._listed() if self.runs is None else self.runs:
            if run_id in seen:
                continue
            seen.add(run_id)
            try:
                items = self._items(address_of(run_id, self.namespace))
            except (RunNotFound, CheckpointCorrupt, CheckpointsLost, SchemaTooNew, InvalidName) as exc:
                self.unread += 1
                if self.unread <= MOST_NOTES:
                    self._notes.append(f"not counted: {plain(str(exc))}")
                continue
            yield items

    def _listed(self) -> Iterator[str]:
        """Those that were deleted last: one that is deleted meanwhile is met there."""
        for key_of in (index_key, kept_index_key):
            yield from listed_runs(self.where, self.namespace, key_of=key_of)

    def _items(self, address: Address) -> list[Item]:
        try:
            loaded = self.where.run(snapshot(address))
            items = account(address.run_id, loaded.entries, loaded.waste)
        except RunNotFound:
            kept = self.where.run(kept_ledger(address))
            if kept is None:
                raise
            self.deleted += 1
            items = kept.items()
        return [self._priced(item) for item in items if item in self.chosen]

    def _priced(self, item: Item) -> Item:
        if not self.prices or not isinstance(item, Spent):
            return item
        entry = priced_anew(item.entry, self.prices)
        self.repriced += entry is not item.entry
        return replace(item, entry=entry)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the result should know."""
        more = [f"not counted: {self.unread - MOST_NOTES} more runs"] if self.unread > MOST_NOTES else []
        anew = [f"{self.repriced} attempts are priced anew; what is recorded stays as it is"] if self.repriced else []
        which = "1 run is" if self.deleted == 1 else f"{self.deleted} runs are"
        gone = [f"{which} deleted; what was kept of the ledger counts"] if self.deleted else []
        return (*self._notes, *more, *gone, *anew)


def survey(
    runs: str | Iterable[str] | None,
    since: Moment,
    until: Moment,
    agent: str | None,
    tag: str | None,
    prices: Mapping[str, Price] | None,
    store: Connectable,
    namespace: str,
) -> Survey:
    """What ``ac.costs`` and ``ac.export_ledger`` read.

    Raises:
        InvalidName: there can be no such namespace.
        RunMisuse: a time has no zone.
    """
    ids.check_namespace(namespace)
    chosen = Chosen(_ms("since", since), _ms("until", until), agent, tag)
    return Survey(connect(store), namespace, runs, chosen, prices or {})


def _ms(name: str, moment: Moment) -> int | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day, tzinfo=datetime.UTC)
    if moment.tzinfo is None:
        raise RunMisuse(f"{name}={moment!r} has no time zone: write datetime(..., tzinfo=datetime.UTC), or a date.")
    return int(moment.timestamp() * 1000)
