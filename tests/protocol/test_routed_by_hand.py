"""Which server a packet is led to, and what becomes of one that is turned away: by hand, without a server."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from agentcheckpoint.errors import StoreRefused
from agentcheckpoint.store.effects import Command, Lost, Node, NotSent, Packet, Pause, Refusal
from agentcheckpoint.store.routed import PAUSES, routed
from agentcheckpoint.store.routes import MasterRoute, Routes, SlotRoutes

A, B, C = ("a", 1), ("b", 2), ("c", 3)
KEY_OF = {A: "ac:{b}:head", B: "ac:{c}:head"}
"""A key of a slot of each of the two nodes: 3300 and 7365."""
SLOTS = [[0, 5000, [b"a", 1, b"id"], [b"c", 3, b"id"]], [5001, 16383, [b"b", 2, b"id"]]]
MULTI = (("MULTI",), ("SET", KEY_OF[A], "x"), ("EXEC",))


def told(*packets: Packet) -> Generator[Any, Any, list[Any]]:
    """A protocol that sends these, and keeps what it is told of each."""
    heard: list[Any] = []
    for packet in packets:
        try:
            heard.append((yield packet))
        except (NotSent, Lost) as exc:
            heard.append(exc)
    return heard


class Led:
    """Drives it: each packet has to go to the server named, and is answered."""

    def __init__(self, routes: Routes, *packets: Packet) -> None:
        self._protocol = routed(told(*packets), routes)
        self.slept: list[float] = []
        self.outcome: list[Any] = []
        self._effect: Any = next(self._protocol)

    def goes_to(self, node: Node, *words: str) -> Led:
        assert isinstance(self._effect, Packet), self._effect
        assert (self._effect.node, [str(command[0]) for command in self._effect.commands]) == (node, list(words))
        return self

    def reply(self, *replies: Any) -> Led:
        return self._go(lambda: self._protocol.send(list(replies)))

    def throw(self, trouble: Exception) -> Led:
        return self._go(lambda: self._protocol.throw(trouble))

    def _go(self, step: Any) -> Led:
        try:
            self._effect = step()
            while isinstance(self._effect, Pause):
                self.slept.append(self._effect.seconds)
                self._effect = self._protocol.send(None)
        except StopIteration as stop:
            self.outcome = stop.value
        return self


def known() -> SlotRoutes:
    """A cluster whose slots are known."""
    routes = SlotRoutes([A])
    Led(routes, Packet((("GET", KEY_OF[A]),))).goes_to(A, "CLUSTER").reply(SLOTS).reply(b"")
    return routes


def test_a_run_lives_on_the_node_that_has_its_slot() -> None:
    led = Led(known(), Packet(MULTI), Packet((("GET", KEY_OF[B]),)))
    led.goes_to(A, "MULTI", "SET", "EXEC").reply(b"OK", b"QUEUED", [b"OK"]).goes_to(B, "GET").reply(b"x")
    assert led.outcome == [[b"OK", b"QUEUED", [b"OK"]], [b"x"]]


def test_questions_about_runs_on_several_nodes_are_put_to_each_and_their_answers_stand_in_order() -> None:
    asked: tuple[Command, ...] = (("TIME",), ("GET", KEY_OF[B]), ("GET", KEY_OF[A]), ("EXISTS", KEY_OF[B]))
    led = Led(known(), Packet(asked))
    led.goes_to(B, "TIME", "GET", "EXISTS").reply(b"now", b"of b", 1).goes_to(A, "GET").reply(b"of a")
    assert led.outcome == [[b"now", b"of b", b"of a", 1]]


def test_a_slot_that_has_moved_is_looked_for_where_it_is_said_to_be_and_the_packet_is_not_sent_on() -> None:
    led = Led(known(), Packet(MULTI), Packet(MULTI))
    led.reply(b"OK", Refusal("MOVED", "3300 b:2"), Refusal("EXECABORT", "Transaction discarded"))
    led.goes_to(B, "MULTI", "SET", "EXEC").reply(b"OK", b"QUEUED", [b"OK"])
    assert isinstance(led.outcome[0], NotSent) and led.outcome[1] == [b"OK", b"QUEUED", [b"OK"]]


@pytest.mark.parametrize("code", ["ASK", "TRYAGAIN"])
def test_a_slot_that_is_moving_is_not_there_yet(code: str) -> None:
    led = Led(known(), *[Packet(MULTI)] * 4)
    for _ in range(4):
        led.goes_to(A, "MULTI", "SET", "EXEC").reply(b"OK", b"QUEUED", Refusal(code, "3300 b:2"))
    assert [type(one) for one in led.outcome] == [NotSent] * 4
    assert led.slept == [pause for pause in PAUSES[:4] if pause]  # each time it waits longer


def test_a_part_of_what_was_asked_is_no_answer() -> None:
    led = Led(known(), Packet((("GET", KEY_OF[A]), ("EXISTS", KEY_OF[A]))))
    led.reply(b"there", Refusal("ASK", "3300 b:2"))
    assert [type(one) for one in led.outcome] == [Lost]


def test_a_commit_whose_neighbours_are_refused_is_applied_all_the_same() -> None:
    replies = [b"OK", b"QUEUED", [Refusal("WRONGTYPE", "no"), b"OK"]]
    led = Led(known(), Packet(MULTI))
    led.reply(*replies)
    assert led.outcome == [replies]


@pytest.mark.parametrize("trouble", [NotSent("refused"), Lost("cut")])
def test_a_node_that_is_away_is_asked_last_who_has_what_now(trouble: Exception) -> None:
    led = Led(known(), Packet(MULTI), Packet(MULTI))
    led.throw(trouble).goes_to(C, "CLUSTER").throw(NotSent("away too")).goes_to(B, "CLUSTER")
    led.reply([[0, 16383, [b"c", 3, b"id"]]]).goes_to(C, "MULTI", "SET", "EXEC").reply(b"OK", b"QUEUED", [b"OK"])
    assert led.outcome[0] is trouble


def test_nobody_left_to_ask_leaves_what_was_known() -> None:
    led = Led(known(), Packet(MULTI), Packet(MULTI))
    led.throw(NotSent("refused"))
    for node in (C, B, A):
        led.goes_to(node, "CLUSTER").throw(NotSent("refused"))
    led.goes_to(A, "MULTI", "SET", "EXEC")


def test_who_is_no_cluster_or_may_not_say_is_an_error_that_stays() -> None:
    with pytest.raises(StoreRefused, match="cluster"):
        Led(SlotRoutes([A]), Packet(MULTI)).reply(Refusal("ERR", "This instance has cluster support disabled"))


def test_a_slot_that_nobody_has_is_waited_for() -> None:
    led = Led(SlotRoutes([A]), Packet(MULTI)).reply([[5001, 16383, [b"b", 2, b"id"]]])
    assert isinstance(led.outcome[0], NotSent) and "slot 3300" in str(led.outcome[0])


def test_an_address_without_a_host_is_that_of_the_node_that_was_asked() -> None:
    led = (
        Led(SlotRoutes([A]), Packet(MULTI))
        .reply([[0, 16383, [None, 7, b"id"]]])
        .goes_to(("a", 7), *["MULTI", "SET", "EXEC"])
    )
    led.reply(b"OK", Refusal("MOVED", "3300 :8"), Refusal("EXECABORT", ""))
    assert isinstance(led.outcome[0], NotSent)


# -- Sentinel ---------------------------------------------------------------------------------------------------------


def test_the_primary_is_whom_sentinel_names_and_another_sentinel_is_asked_first_the_next_time() -> None:
    led = Led(MasterRoute([A, B], "m"), Packet(MULTI), Packet(MULTI))
    led.goes_to(B, "SENTINEL").throw(NotSent("away")).goes_to(A, "SENTINEL").reply([b"c", b"3"])
    led.goes_to(C, "MULTI", "SET", "EXEC").throw(Lost("killed")).goes_to(B, "SENTINEL").reply([b"d", b"4"])
    led.goes_to(("d", 4), "MULTI", "SET", "EXEC")


def test_a_server_that_has_become_a_replica_has_not_applied_it_and_sentinel_is_asked() -> None:
    for refusal in (Refusal("READONLY", "a replica"), Refusal("EXECABORT", "discarded because of: READONLY a replica")):
        led = Led(MasterRoute([A], "m"), Packet(MULTI), Packet(MULTI)).reply([b"c", b"3"])
        led.reply(b"OK", b"QUEUED", refusal).goes_to(A, "SENTINEL").reply([b"d", b"4"])
        led.goes_to(("d", 4), "MULTI", "SET", "EXEC").reply(b"OK", b"QUEUED", [b"OK"])
        assert isinstance(led.outcome[0], NotSent)


def test_a_connection_to_what_was_the_primary_is_asked_whether_it_still_is() -> None:
    route = MasterRoute([A], "m")
    assert route.greeting(A) == () and route.greeting(C) == (("ROLE",),)
    route.check(C, [[b"master", 1, []]])
    route.check(C, [Refusal("NOPERM", "role")])  # it may not be asked: then a write would be refused
    with pytest.raises(NotSent, match="no primary"):
        route.check(C, [[b"slave", b"d", 4, b"connected", 1]])


def test_an_interrupt_reaches_the_protocol_and_its_end_is_not_forgotten() -> None:
    ended: list[str] = []

    def protocol() -> Generator[Any, Any, str]:
        try:
            yield Pause(1, idle=True)
        except KeyboardInterrupt:
            ended.append("interrupted")
            yield Packet(MULTI)
        finally:
            ended.append("closed")
        return ""

    led = routed(protocol(), known())
    next(led)
    assert led.throw(KeyboardInterrupt()).node == A  # type: ignore[union-attr]
    led.close()
    assert ended == ["interrupted", "closed"]
