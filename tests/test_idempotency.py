"""The idempotency key of a step: the same for each of its attempts, and nobody else's."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from memory_runs import fresh

import agentcheckpoint as ac
from agentcheckpoint.core.ids import idempotency_key


def key() -> str:
    return ac.idempotency_key()


def keyed(text: str) -> str:
    return key()


async def key_async() -> str:
    return ac.idempotency_key()


def fail_with_key(seen: list[str]) -> None:
    seen.append(key())
    raise OSError


def test_it_is_the_same_on_each_attempt_of_the_step_and_of_the_run() -> None:
    url, seen = fresh(), list[str]()
    for _ in range(3):
        with pytest.raises(OSError), ac.run("r", store=url) as run:
            for _ in range(2):
                with pytest.raises(OSError):
                    run.step(ac.Step("s", ignore=("seen",)), fail_with_key, seen)
            raise OSError
    assert len(seen) == 6 and len(set(seen)) == 1
    assert re.fullmatch("ac-[0-9a-f]{32}", seen[0])


def test_it_is_another_for_each_slot_input_run_namespace_and_birth() -> None:
    url, keys = fresh(), list[str]()
    with ac.run("r", store=url) as run:
        keys += [run.step("s", key), run.step("s", key), run.step("t", key)]
        keys += [run.step(ac.Step("k", key="1"), keyed, "a"), run.step(ac.Step("k", key="2"), keyed, "a")]
        keys.append(run.step("inputs", keyed, "a"))
    with ac.run("other", store=url) as run:
        keys.append(run.step("s", key))
    with ac.run("r", store=url, namespace="elsewhere") as run:
        keys.append(run.step("s", key))
    with ac.run("r", store=fresh()) as run:
        keys.append(run.step("s", key))
    assert len(set(keys)) == len(keys) == 9


@pytest.mark.parametrize("n", range(5))
def test_each_part_counts_and_none_runs_into_the_next(n: int) -> None:
    parts = ["n", "r", "b", "s", "d"]
    other = [*parts[:n], parts[n] + "x", *parts[n + 1 :]]
    assert idempotency_key(*parts) != idempotency_key(*other)
    if n < 4:
        assert idempotency_key(*parts) != idempotency_key(*[*parts[:n], "".join(parts[n : n + 2]), "", *parts[n + 2 :]])


def test_other_inputs_of_one_slot_have_another_key() -> None:
    url, keys = fresh(), set[str]()
    for text in ("a", "b"):
        with ac.run("r", store=url, on_mismatch="rerun") as run:
            keys.add(run.step("s", keyed, text))
    assert len(keys) == 2


@pytest.mark.filterwarnings("ignore::agentcheckpoint.errors.UnmetStepsWarning")
async def test_every_kind_of_step_has_one_and_an_inner_step_has_its_own() -> None:
    @ac.tool
    def refund(order: str) -> str:
        return ac.idempotency_key()

    @ac.step
    async def outer() -> list[str]:
        before = ac.idempotency_key()
        inner = refund.call({"order": "7"}, id="call_1")
        assert before == ac.idempotency_key()
        return [before, inner]

    url = fresh()
    async with ac.run("r", store=url) as run:
        keys = [*await outer(), await run.step("s", key_async), await run.step("t", key), await run.llm("m", key_async)]
        async with run.begin("b", str) as begun:
            assert begun.idempotency_key == ac.idempotency_key()
            keys.append(await begun.save(begun.idempotency_key))
    async with ac.run("r", store=url) as run, run.begin("b", str) as begun:
        assert begun.done and begun.value == begun.idempotency_key
    assert len(set(keys)) == len(keys) == 6


def test_threads_that_inherit_the_step_have_its_key() -> None:
    def in_threads() -> list[str]:
        with ThreadPoolExecutor() as pool:
            return [ac.idempotency_key(), *pool.map(run.bind(lambda _: ac.idempotency_key()), range(2))]

    with ac.run("r", store=fresh()) as run:
        assert len(set(run.step("s", in_threads))) == 1


def test_outside_of_a_step_there_is_none() -> None:
    with pytest.raises(ac.RunMisuse, match="in no step"):
        ac.idempotency_key()
    with ac.run("r", store=fresh()) as run:
        with pytest.raises(ac.RunMisuse, match="in no step"):
            ac.idempotency_key()
        with pytest.raises(ac.RunMisuse, match="use it as"):
            _ = run.begin("b").idempotency_key


def test_switched_off_it_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCHECKPOINT", "off")
    with ac.run("r") as run:
        keys = [run.step("s", key), run.step("s", key), ac.idempotency_key()]
        with run.begin("b", str) as begun:
            keys.append(begun.idempotency_key)
    assert len(set(keys)) == 4 and all(re.fullmatch("ac-[0-9a-f]{32}", one) for one in keys)


def test_it_does_not_depend_on_the_process() -> None:
    code = "from agentcheckpoint.core.ids import idempotency_key as k; print(k('default', 'r', 'b', 's', 'd'))"
    there = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).strip()
    assert there == idempotency_key("default", "r", "b", "s", "d") == "ac-96a4b84e917957ae0d9cb363be104239"
