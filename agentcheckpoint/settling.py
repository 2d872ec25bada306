"""``ac.settle`` and ``ac.settle_billed``: what became of unresolved attempts, said afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from agentcheckpoint.core.amounts import EXACT, Dollars, dollars, exact_dollars
from agentcheckpoint.core.ledger import money
from agentcheckpoint.core.models import LedgerEntry, Usage
from agentcheckpoint.core.price import Price
from agentcheckpoint.core.settling import Said, is_said, nearest_nano, settled
from agentcheckpoint.core.spending import Spent
from agentcheckpoint.core.usage import total_usage
from agentcheckpoint.errors import RunMisuse
from agentcheckpoint.store.connect import Connectable, connect
from agentcheckpoint.store.outside import Books, settle_outside
from agentcheckpoint.survey import survey
from agentcheckpoint.view import address_of


def settle(
    run_id: str,
    entry_id: str,
    /,
    *,
    paid: Dollars | None = None,
    usage: Usage | None = None,
    not_billed: bool = False,
    wasted: bool = True,
    prices: Mapping[str, Price] | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> LedgerEntry:
    """Says what became of an attempt that may have been billed. Blocking; a worker at the run is not disturbed.

    Give one of ``paid``, ``usage`` and ``not_billed``. What the run's own log has settled, or settles later, counts
    more. What was said before by this function may be said anew. A run that was deleted may be settled too, if its
    ledger was kept.

    Args:
        run_id: the run.
        entry_id: the attempt: ``LedgerEntry.id``, which the provider was sent as ``X-Client-Request-Id``.
        paid: the dollars that it cost, such as ``"0.012"``.
        usage: the tokens that it used; its cost is then by ``prices``, else by published ones.
        not_billed: it cost nothing.
        wasted: nobody got its answer, so the money is waste; ``False``: it was of use all the same.
        prices: your own prices by model.
        store: as in ``ac.run``.
        namespace: as in ``ac.run``.

    Returns:
        The entry, as it counts now.

    Raises:
        RunMisuse: there is no such attempt, it is settled already, or not one of the three is given.
        TypeError, ValueError: ``paid`` is no amount.
        RunNotFound, CheckpointsLost, CheckpointCorrupt, SchemaTooNew, StoreRefused, StoreUnavailable.
    """
    if (paid is not None) + (usage is not None) + not_billed != 1:
        raise RunMisuse(f"run {run_id!r}: say one of paid=, usage= and not_billed=True of attempt {entry_id!r}.")
    said = Said(None if paid is None else dollars(paid, "paid="), usage, wasted)

    found: list[LedgerEntry] = []

    def decide(books: Books) -> list[LedgerEntry]:
        if (known := books.now.get(entry_id)) is None:
            raise RunMisuse(f"run {run_id!r} has no attempt {entry_id!r}: ac.get({run_id!r}).ledger lists them.")
        answer = settled(books.logged.get(entry_id, known), said, "by hand", prices or {})
        if known.bill != "unresolved" and not is_said(known):
            raise RunMisuse(
                f"run {run_id!r}: attempt {entry_id!r} is settled already: {known.bill}, {money(known.cost)}. Only "
                "what is unresolved, or was said afterwards, can be settled by hand."
            )
        found[:] = [answer]
        return [] if known == answer else found

    connect(store).run(settle_outside(address_of(run_id, namespace), decide))
    return found[0]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a provider's bill has settled.

    Attributes:
        settled: the attempts, as they count now.
        notes: runs that could not be read.
    """

    settled: tuple[Spent, ...]
    notes: tuple[str, ...]


def settle_billed(
    bill: Iterable[tuple[str, Dollars | Usage]],
    /,
    *,
    wasted: bool = True,
    prices: Mapping[str, Price] | None = None,
    runs: str | Iterable[str] | None = None,
    store: Connectable = None,
    namespace: str = "default",
) -> Settlement:
    """Settles what is unresolved by a provider's bill. Blocking. Doing it again with the same bill changes nothing.

    Args:
        bill: pairs of a request's id and what it cost: dollars (rounded to nano-dollars), or the tokens that it used.
            The id is ours (``LedgerEntry.id``, sent as ``X-Client-Request-Id``) or the provider's
            (``LedgerEntry.request_id``). Lines of the same id are added up; those that match nothing are passed over.
        wasted, prices: as in ``ac.settle``.
        runs, store, namespace: as in ``ac.costs``.

    Raises:
        RunMisuse: lines of one id give dollars and tokens.
        TypeError, ValueError: what a line says is no amount.
        What ``ac.costs`` raises.
    """
    lines = _added_up(bill, wasted)
    found = survey(runs, None, None, None, None, None, store, namespace)
    done: list[Spent] = []
    for items in found:
        matching = {item.entry.id: item for item in items if isinstance(item, Spent) and _line(item.entry, lines)}
        if matching:
            address = address_of(next(iter(matching.values())).run, namespace)
            written = found.where.run(settle_outside(address, _by_bill(lines, prices or {})))
            done += (replace(matching[entry.id], entry=entry) for entry in written if entry.id in matching)
    return Settlement(tuple(done), found.notes)


def _by_bill(lines: Mapping[str, Said], prices: Mapping[str, Price]) -> Callable[[Books], Iterable[LedgerEntry]]:
    def decide(books: Books) -> Iterator[LedgerEntry]:
        for entry in books.now.values():
            if (said := _line(entry, lines)) is not None:
                yield settled(entry, said, "the provider's bill", prices)

    return decide


def _line(entry: LedgerEntry, lines: Mapping[str, Said]) -> Said | None:
    """What the bill says of an attempt that is unresolved."""
    if entry.bill != "unresolved":
        return None
    return lines.get(entry.id) or lines.get(entry.request_id or "")


def _added_up(bill: Iterable[tuple[str, Dollars | Usage]], wasted: bool) -> dict[str, Said]:
    amounts: dict[str, Decimal] = {}
    usages: dict[str, Usage] = {}
    for request_id, said in bill:
        if isinstance(said, Usage):
            usages[request_id] = total_usage((usages.get(request_id, Usage()), said))
        else:
            with localcontext(EXACT):
                amounts[request_id] = amounts.get(request_id, Decimal(0)) + exact_dollars(said, f"line {request_id!r}")
    if both := amounts.keys() & usages.keys():
        raise RunMisuse(f"the bill gives dollars and tokens of request {min(both)!r}: give one of them.")
    paid = {request_id: Said(nearest_nano(amount), None, wasted) for request_id, amount in amounts.items()}
    return paid | {request_id: Said(None, usage, wasted) for request_id, usage in usages.items()}
