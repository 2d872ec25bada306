"""What a server may say or forget while a run is at work, row by row: what is applied, and what is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faults.server_agent import PRICE
from faults.server_evidence import prefix_of
from faults.server_scenarios import TROUBLES
from faults.servers import Server
from servers import REAL, run_id
from shop import Shop, slots

import agentcheckpoint as ac

__all__ = ["run_id"]
pytestmark = pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.DurabilityWarning")


@pytest.fixture(scope="module", params=REAL)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(request.param, tmp_path_factory.mktemp("server")) as made:
        yield made


@pytest.fixture
def shop() -> Shop:
    return Shop()


def key(server: Server, run_id: str, name: str) -> str:
    """The full name of one of a run's keys."""
    prefix = prefix_of(run_id)
    own = name in ("head", "tokens", "waste")
    return prefix + (name if own else f"{server.ask('GET', prefix + 'head').decode()}:{name}")


# -- refusals ------------------------------------------------------------------------------------------------------


@contextmanager
def trouble(server: Server, name: str) -> Iterator[None]:
    begin, end = TROUBLES[name]
    server.ask(*begin)
    try:
        yield
    finally:
        server.ask(*end)


@pytest.mark.parametrize("name", TROUBLES)
def test_a_refused_claim_writes_nothing(server: Server, run_id: str, shop: Shop, name: str) -> None:
    with trouble(server, name), pytest.raises(ac.StoreRefused, match=name), ac.run(run_id, store=server.url):
        raise AssertionError("it was opened")
    assert not server.ask("KEYS", f"{prefix_of(run_id)}*")
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
    assert slots(server, run_id) == ["a[k]"] and run.attempt == 1


@pytest.mark.parametrize("name", TROUBLES)
def test_a_refused_intent_stops_the_call_before_it_is_paid(server: Server, run_id: str, shop: Shop, name: str) -> None:
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        with trouble(server, name), pytest.raises(ac.StoreRefused, match=name):
            shop.step(run, "b")
        assert shop.bought == ["a"]
        shop.step(run, "b")
    assert shop.bought == ["a", "b"] and run.cost.paid == 2 * PRICE and run.cost.unresolved == 0


@pytest.mark.parametrize("name", TROUBLES)
def test_a_refused_commit_applies_nothing_and_carries_the_result(
    server: Server, run_id: str, shop: Shop, name: str
) -> None:
    begin, end = TROUBLES[name]
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        with pytest.raises(ac.StoreRefused, match=name) as caught:
            shop.step(run, "b", lambda: server.ask(*begin))
        server.ask(*end)
        assert caught.value.value["receipt"].startswith("b-") and slots(server, run_id) == ["a[k]"]
        shop.step(run, "c")
    with ac.run(run_id, store=server.url) as run:
        for step in "abc":
            shop.step(run, step)
    assert shop.bought == ["a", "b", "c", "b"]
    assert run.cost.paid == 3 * PRICE and run.cost.unresolved == 1, "what was bought and not recorded stays in sight"


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_between_two_steps_is_not_noticed(server: Server, run_id: str, shop: Shop, name: str) -> None:
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        with trouble(server, name):
            pass
        shop.step(run, "b")
    assert slots(server, run_id) == ["a[k]", "b[k]"]


# -- keys that vanish ----------------------------------------------------------------------------------------------

AT_REST = {
    "head": "head is missing",
    "log": "log has no birth",
    "results": "results has no birth",
    "meta": "meta has no",
}
"""Which lost key of a run is named at its next opening, and how."""


@pytest.mark.parametrize("name", AT_REST)
def test_a_key_that_is_evicted_at_rest_is_named_and_nothing_is_bought_again(
    server: Server, run_id: str, shop: Shop, name: str
) -> None:
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
    assert server.ask("DEL", key(server, run_id, name)) == 1
    for _ in range(2):
        with pytest.raises(ac.CheckpointsLost, match=AT_REST[name]), ac.run(run_id, store=server.url):
            raise AssertionError("it was opened")
    assert shop.bought == ["a"]


@pytest.mark.parametrize("name", ["head", "log", "results"])
def test_a_key_that_is_evicted_under_a_worker_is_named_at_its_next_checkpoint(
    server: Server, run_id: str, shop: Shop, name: str
) -> None:
    with pytest.raises(ac.CheckpointsLost), ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        with pytest.raises(ac.CheckpointsLost) as caught:
            shop.step(run, "b", lambda: server.ask("DEL", key(server, run_id, name)))
        assert caught.value.value["receipt"].startswith("b-")
        shop.step(run, "c")
    assert shop.bought == ["a", "b"]


def test_totals_that_are_evicted_under_a_worker_are_named_at_the_next_opening(
    server: Server, run_id: str, shop: Shop
) -> None:
    """They are a cache of the ledger, so the worker itself takes no harm."""
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        server.ask("DEL", key(server, run_id, "meta"))
        shop.step(run, "b")
    with pytest.raises(ac.CheckpointsLost, match="meta has no birth"), ac.run(run_id, store=server.url):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("name", ["tokens", "lease"])
def test_a_list_of_tokens_or_a_lease_may_vanish(server: Server, run_id: str, shop: Shop, name: str) -> None:
    """Harmless: the list only tells a lost head from a new run, and the next commit sets the lease anew."""
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        assert server.ask("DEL", key(server, run_id, name)) == 1
        shop.step(run, "b")
        assert server.ask("EXISTS", key(server, run_id, "lease"))
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a"), shop.step(run, "b")
    assert shop.bought == ["a", "b"]


def test_booked_waste_that_vanishes_is_unresolved_again_and_not_nothing(
    server: Server, run_id: str, shop: Shop
) -> None:
    def be_taken_over() -> None:
        server.ask("DEL", key(server, run_id, "lease"))
        with ac.run(run_id, store=server.url):
            pass

    with pytest.raises(ac.LeaseLost), ac.run(run_id, store=server.url) as run:
        shop.step(run, "a", be_taken_over)
    assert ac.get(run_id, store=server.url).cost.wasted == PRICE
    server.ask("DEL", key(server, run_id, "waste"))
    left = ac.get(run_id, store=server.url).cost
    assert (left.wasted, left.unresolved) == (0, 1)


def test_a_tombstone_that_vanishes_leaves_a_paused_worker_without_its_run_and_the_id_free(
    server: Server, run_id: str, shop: Shop
) -> None:
    """Harmless: nothing else of the run is left, and the worker's token is no run's."""

    def delete() -> None:
        server.ask("DEL", key(server, run_id, "lease"))
        ac.delete(run_id, store=server.url)
        server.ask("DEL", prefix_of(run_id) + "tomb")

    with pytest.raises(ac.CheckpointsLost) as caught, ac.run(run_id, store=server.url) as run:
        shop.step(run, "a", delete)
    assert caught.value.value["receipt"].startswith("a-")
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
    assert slots(server, run_id) == ["a[k]"] and run.attempt == 1


def test_flushall_under_a_worker_is_named(server: Server, run_id: str, shop: Shop) -> None:
    with pytest.raises(ac.CheckpointsLost, match="vanished") as caught, ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
        shop.step(run, "b", lambda: server.ask("FLUSHALL"))
    assert caught.value.value["receipt"].startswith("b-") and shop.bought == ["a", "b"]


def test_flushall_at_rest_leaves_nothing_that_could_tell(server: Server, run_id: str, shop: Shop) -> None:
    """Not promised: to look is told that there is no such run, to open makes it anew and pays again."""
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
    server.ask("FLUSHALL")
    with pytest.raises(ac.RunNotFound):
        ac.get(run_id, store=server.url)
    with ac.run(run_id, store=server.url) as run:
        shop.step(run, "a")
    assert shop.bought == ["a", "a"] and run.attempt == 1
