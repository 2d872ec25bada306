"""``version=``, ``max_age=`` and ``migrate=``: how long a record counts, and what replaces it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from memory_runs import ask, fresh, logged
from pydantic import BaseModel
from typing_extensions import TypedDict

import agentcheckpoint as ac
from agentcheckpoint.attempt import Attempt
from agentcheckpoint.core.models import Done

CENT = 10_000_000


class Shop:
    """Sells answers at a cent, and counts."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    def buy(self, what: str) -> str:
        self.sold.append(what)
        return f"{what} {len(self.sold)}"


def bought(url: str, shop: Shop, what: str = "tea", policy: Any = "error", **options: Any) -> Any:
    """One attempt of a run that buys once."""
    with ac.run("r", store=url, on_mismatch=policy) as run:
        return run.step(ac.Step("buy", cost="0.01", **options), shop.buy, what)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The server's clock goes on so far."""
    real = Attempt.now_ms
    monkeypatch.setattr(Attempt, "now_ms", lambda self: real(self) + int(seconds * 1000))


# -- version ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(1, 2), (None, 1), (2, None), ("a", "b")])
@pytest.mark.parametrize("policy", ["error", "rerun", "reuse"])
def test_a_record_of_another_version_is_never_replayed_and_stays_in_the_log(old: Any, new: Any, policy: Any) -> None:
    url, shop = fresh(), Shop()
    assert bought(url, shop, version=old) == "tea 1"
    assert bought(url, shop, version=new, policy=policy) == "tea 2"
    assert bought(url, shop, version=new) == "tea 2"
    records = logged(url, "r", Done)
    assert [(done.slot, done.version) for done in records] == [
        ("buy", None if old is None else str(old)),
        ("buy", None if new is None else str(new)),
    ]
    cost = ac.get("r", store=url).cost
    assert (cost.paid, cost.wasted) == (CENT, CENT), "both are paid; the answer that counts no more is wasted"


def test_a_number_and_its_text_are_one_version() -> None:
    url, shop = fresh(), Shop()
    assert bought(url, shop, version=1) == bought(url, shop, version="1") == "tea 1"


def test_the_step_can_have_another_version_refused_or_taken() -> None:
    url, shop = fresh(), Shop()
    bought(url, shop, version=1)
    with pytest.raises(ac.StepMismatch) as caught:
        bought(url, shop, version=2, on_mismatch="error")
    said = str(caught.value)
    assert "run 'r', step 'buy'" in said and "version: recorded 1, came 2" in said and "It cost $0.01" in said
    assert all(way in said for way in ("on_mismatch='rerun'", "on_mismatch='reuse'", "migrate="))
    assert bought(url, shop, version=2, on_mismatch="reuse") == "tea 1"
    assert shop.sold == ["tea"]


def test_other_inputs_of_another_version_are_no_mismatch_since_the_record_is_out_of_date_anyhow() -> None:
    url, shop = fresh(), Shop()
    bought(url, shop, version=1)
    with pytest.raises(ac.StepMismatch, match="what: recorded 'tea'"):
        bought(url, shop, "rum", version=1)
    assert bought(url, shop, "rum", version=2) == "rum 2"


def test_a_step_that_must_not_happen_twice_is_not_done_again_by_another_version() -> None:
    url, shop = fresh(), Shop()
    bought(url, shop, version=1, effect="once")
    with pytest.raises(ac.StepMismatch, match="recorded 1, came 2"):
        bought(url, shop, version=2, effect="once")
    assert shop.sold == ["tea"]
    assert bought(url, shop, version=2, effect="once", on_mismatch="rerun") == "tea 2"


def test_a_step_of_another_version_that_fails_leaves_the_old_record_and_runs_again() -> None:
    url, shop = fresh(), Shop()
    bought(url, shop, version=1)

    def fail(what: str) -> str:
        raise ValueError(what)

    with pytest.raises(ValueError), ac.run("r", store=url) as run:
        run.step(ac.Step("buy", version=2), fail, "tea")
    assert bought(url, shop, version=1) == "tea 1", "the old code still finds its record"
    assert bought(url, shop, version=2) == "tea 2"


def test_only_the_step_of_another_version_runs_again_and_not_what_stands_around_it() -> None:
    url, shop = fresh(), Shop()

    def life(version: int) -> list[str]:
        with ac.run("r", store=url) as run:
            versions = (1, version, 1)
            return [run.step(ac.Step("buy", version=v), shop.buy, w) for v, w in zip(versions, "abc", strict=True)]

    assert life(1) == ["a 1", "b 2", "c 3"]
    assert life(2) == life(2) == ["a 1", "b 4", "c 3"]


def test_decorators_and_begin_take_a_version_too() -> None:
    url, calls = fresh(), list[int]()

    def decorated(version: int, kind: Callable[..., Any]) -> int:
        @kind(version=version, max_age=60, migrate=int)
        def count(n: int) -> int:
            calls.append(n)
            return len(calls)

        with ac.run(kind.__name__, store=url):
            return count(7)

    for kind in (ac.step, ac.tool):
        calls.clear()
        assert [decorated(version, kind) for version in (1, 1, 2)] == [1, 1, 1], "it is migrated"
    for version, was_done in ((1, False), (1, True), (2, False)):
        with ac.run("begun", store=url) as run, run.begin(ac.Step("draft", version=version), str) as draft:
            assert draft.done is was_done
            if not draft.done:
                draft.save(f"draft {version}")


# -- max_age ----------------------------------------------------------------------------------------------------------


def test_a_record_that_is_too_old_is_replaced_and_its_money_stays_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    url, shop = fresh(), Shop()
    assert bought(url, shop, max_age=60) == bought(url, shop, max_age=60) == "tea 1"
    later(monkeypatch, 120)
    assert bought(url, shop) == "tea 1", "who sets no limit takes it"
    assert bought(url, shop, max_age=60, policy="reuse") == "tea 2"
    assert bought(url, shop, max_age=60) == "tea 2"
    assert len(logged(url, "r", Done)) == 2
    cost = ac.get("r", store=url).cost
    assert (cost.paid, cost.wasted) == (2 * CENT, 0), "it was of use as long as it counted"


def test_a_record_that_the_attempt_made_itself_never_goes_stale_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    url, shop, step = fresh(), Shop(), ac.Step("buy", key="k", max_age=60)
    with ac.run("r", store=url) as run:
        run.step(step, shop.buy, "tea")
        later(monkeypatch, 120)
        assert run.step(step, shop.buy, "tea") == "tea 1"
    assert shop.sold == ["tea"]
    with ac.run("r", store=url) as run:
        assert run.step(step, shop.buy, "tea") == "tea 2", "for the next one it is too old"


async def test_parallel_steps_go_stale_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    url, shop = fresh(), Shop()

    async def life(max_age: float | None) -> list[str]:
        async with ac.run("r", store=url) as run:
            steps = [ac.Step("buy", max_age=max_age if what == "b" else None) for what in "abc"]
            return await asyncio.gather(*(run.step(s, shop.buy, w) for s, w in zip(steps, "abc", strict=True)))

    first = await life(60)
    later(monkeypatch, 120)
    second = await life(60)
    assert [old == new for old, new in zip(first, second, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": 0},
        {"max_age": "60"},
        {"max_age": float("nan")},
        {"max_age": 60, "effect": "once"},
        {"version": ""},
        {"version": True},
        {"version": 1.5},
        {"version": "x" * 101},
        {"version": "a\n"},
        {"migrate": asyncio.sleep},
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_said(options: dict[str, Any]) -> None:
    with pytest.raises(ac.RunMisuse, match=r"s'|max_age"):
        ac.Step("s", **options)


# -- when the run was taken over meanwhile -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"version": 2}, {"max_age": 60}])
def test_a_worker_that_lost_its_run_is_not_given_the_record_that_was_out_of_date(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    url, shop = fresh(), Shop()
    bought(url, shop, version=1 if "version" in options else None)
    later(monkeypatch, 120)

    def taken_over(what: str) -> str:
        for lease in ask(url, "KEYS", "*:lease"):
            ask(url, "DEL", lease)
        with ac.run("r", store=url) as run:
            run.step("other", lambda: 1)
            run._attempt.journal.replayed(run._attempt.journal.call(run._attempt.root, "buy", None, inputs))
        return shop.buy(what)

    inputs = logged(url, "r", Done)[0].inputs
    with pytest.raises(ac.LeaseLost), ac.run("r", store=url) as run:
        with pytest.raises(ac.LeaseLost):
            run.step(ac.Step("buy", **options), taken_over, "tea")
        raise ac.LeaseLost("told above")


# -- a result type that has changed -----------------------------------------------------------------------------------


class Quote(TypedDict):
    cents: int


class Offer(BaseModel):
    cents: int
    currency: str


def price() -> Any:
    raise AssertionError("it is recorded")


def offered(url: str, returns: Any = Offer, **options: Any) -> Any:
    with ac.run("r", store=url) as run:
        return run.step(ac.Step("price", returns=returns, **options), price)


@pytest.fixture
def url() -> str:
    """A run of older code, whose step returned a ``Quote``."""
    url = fresh()
    with ac.run("r", store=url) as run:
        run.step(ac.Step("price", returns=Quote), lambda: Quote(cents=5))
    return url


def test_a_result_that_does_not_fit_its_type_any_more_names_path_types_and_ways_out(url: str) -> None:
    for _ in range(2):
        with pytest.raises(ac.CheckpointCorrupt, match=r"run 'r', step 'price'") as caught:
            offered(url)
    said = str(caught.value)
    assert "Offer: at $.currency: Field required; recorded is an object" in said
    assert all(way in said for way in ("migrate=", "version=", "returns="))
    assert offered(url, returns=Quote) == {"cents": 5}, "nothing was overwritten"
    with pytest.raises(ac.CheckpointCorrupt, match=r"at \$: .*; recorded is an object"):
        offered(url, returns=int)


def test_what_does_not_fit_is_migrated_on_each_replay_and_the_record_stays(url: str) -> None:
    before, seen = ac.get("r", store=url).entries, list[Any]()

    def migrate(old: Any) -> Any:
        seen.append(old)
        return {**old, "currency": "EUR"}

    for _ in range(2):
        assert offered(url, migrate=migrate) == Offer(cents=5, currency="EUR")
    assert seen == [{"cents": 5}] * 2
    assert [e for e in ac.get("r", store=url).entries if isinstance(e, Done)] == [
        e for e in before if isinstance(e, Done)
    ]


def test_what_fits_is_not_migrated_unless_it_is_of_another_version(url: str) -> None:
    def in_dollars(old: Any) -> Any:
        return {"cents": old["cents"] * 100}

    assert offered(url, Quote, migrate=in_dollars) == {"cents": 5}
    assert offered(url, Quote, migrate=in_dollars, version=2) == {"cents": 500}
    assert offered(url, Quote, migrate=in_dollars, version=2) == {"cents": 500}, "the record is not rewritten"


def test_a_migration_that_does_not_fit_or_fails_says_so_and_pays_nothing(url: str) -> None:
    with pytest.raises(ac.RunMisuse, match=r"run 'r', step 'price': what migrate= made .*currency"):
        offered(url, migrate=lambda old: old)
    with pytest.raises(KeyError, match="euros"):
        offered(url, migrate=lambda old: old["euros"])
    assert len(logged(url, "r", Done)) == 1
