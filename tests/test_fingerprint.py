"""Fingerprints of inputs: equal inputs have equal digests in every process, and other inputs have others."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field, SecretStr, TypeAdapter

from agentcheckpoint.core import canonical as canonical_module
from agentcheckpoint.core import fingerprint as fingerprint_module
from agentcheckpoint.core.canonical import canonical, preview
from agentcheckpoint.core.fingerprint import TAIL, UNCOUNTED, difference, function_inputs, request_inputs
from agentcheckpoint.core.models import Argument, Inputs
from agentcheckpoint.errors import RunMisuse

ROOT = Path(__file__).parent.parent
STORED = TypeAdapter(Inputs)
Pair = namedtuple("Pair", "a b")


class Color(str, enum.Enum):  # noqa: UP042 (a str and an enum at once)
    RED = "r"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Query:
    text: str
    limit: int = 10
    key: str = dataclasses.field(default="", repr=False)
    client: object = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass
class Search(Query):
    pass


class Login(BaseModel):
    user: str
    token: SecretStr = SecretStr("")
    note: str = Field(default="", repr=False)


class Touchy:
    """Any of its methods, if called, is a failure of the test."""

    def fail(self, *_: object) -> Any:
        raise AssertionError("a method of the caller's class was called")

    __repr__ = __str__ = __iter__ = __len__ = __eq__ = __hash__ = __bool__ = __getattr__ = fail  # type: ignore[assignment]


class TouchyList(list[int]):
    def fail(self, *_: object) -> Any:
        raise AssertionError("a method of the caller's class was called")

    __repr__ = __str__ = __iter__ = __len__ = __getitem__ = fail  # type: ignore[assignment]


def take(value: object) -> None: ...


def one(value: object) -> Argument:
    """The fingerprint of one argument."""
    (argument,) = function_inputs(take, (value,), {}).arguments
    return argument


def chat(messages: list[Any], **more: Any) -> Inputs:
    return request_inputs("chat", {"model": "m", "messages": messages, **more})


def say(text: object, role: str = "user") -> dict[str, object]:
    return {"role": role, "content": text}


def names(inputs: Inputs) -> list[str]:
    return [argument.name for argument in inputs.arguments]


def strictly(value: object) -> object:
    """What is equal only if types are, the order of a dict aside, and lists and tuples the same."""
    if isinstance(value, dict):
        return "dict", frozenset((strictly(key), strictly(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "list", tuple(strictly(item) for item in value)
    if isinstance(value, set | frozenset):
        return "set", frozenset(strictly(item) for item in value)
    return type(value).__name__, repr(value)


texts = st.sampled_from(["", "1", "null", "!set[]", "\ud800"])
marked = [b"", b"1", Decimal(1), Decimal("1.0"), date(2026, 1, 1), datetime(2026, 1, 1), UUID(int=1), Color.RED]
hashable = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | texts | st.sampled_from(marked)
values = st.recursive(
    hashable | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
)


# -- digests ------------------------------------------------------------------------------------------------------


@given(values, values)
@settings(max_examples=500)
def test_digests_are_equal_exactly_when_values_are(left: object, right: object) -> None:
    assert (one(left).digest == one(right).digest) == (strictly(left) == strictly(right))


@given(st.dictionaries(hashable, values, max_size=5), st.randoms())
def test_a_copy_in_another_order_has_the_same_digest(value: dict[Any, Any], random: Any) -> None:
    items = list(copy.deepcopy(value).items())
    random.shuffle(items)
    assert one(dict(items)).digest == one(value).digest


@given(values)
def test_whatever_comes_fits_a_record(value: object) -> None:
    inputs = function_inputs(take, (value,), {})
    assert STORED.validate_json(STORED.dump_json(inputs)) == inputs
    (argument,) = inputs.arguments
    assert len(argument.digest) == 16
    assert len(inputs.digest) == 32
    assert len(argument.preview) <= 80
    assert argument.preview.isprintable()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (1, "1"),
        (0, None),
        ("a", b"a"),
        ("/a", Path("/a")),
        ([1, 2], [2, 1]),
        ({1, 2}, [1, 2]),
        ({1: 2}, {"1": 2}),
        ({1: 2}, {1.0: 2}),
        ({}, set()),
        ([], {}),
        ([[1], 2], [[1, 2]]),
        ("r", Color.RED),
        (Rights.READ, Rights.READ | Rights.WRITE),
        (Query("a"), Query("b")),
        (Query("a"), Search("a")),
        (Query("a"), {"text": "a", "limit": 10, "key": ""}),
        (Query("a", key="1"), Query("a", key="2")),
        (Login(user="a"), Login(user="b")),
        (Login(user="a", token=SecretStr("1")), Login(user="a", token=SecretStr("2"))),
        (Query, Search),
        (Query, Query("a")),
        (date(2026, 1, 1), datetime(2026, 1, 1)),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
        (timedelta(1), timedelta(2)),
        (time(1), time(2)),
        (range(3), range(4)),
        (AnyUrl("http://a"), "http://a/"),
        ("\ud83d\ude00", "\U0001f600"),
        ([lambda: 1], [threading.Lock()]),
    ],
)
def test_what_is_not_the_same_has_another_digest(left: object, right: object) -> None:
    assert one(left).digest != one(right).digest
    assert one([left]).digest != one([right]).digest


def test_integers_too_long_to_print_are_compared() -> None:
    assert one(10**5000).digest != one(10**5000 + 1).digest


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1, (2,)], (1, [2])),
        (Pair(1, 2), [1, 2]),
        (deque([1]), [1]),
        ({"a": 1, "b": 2}, OrderedDict(b=2, a=1)),
        ({1, 2}, frozenset({2, 1})),
        (b"a", bytearray(b"a")),
        (float("nan"), float("nan")),
        (Query("a", client=threading.Lock()), Query("a", client=None)),
        ([lambda: 1], [lambda: 2]),
        (TouchyList([1]), [1]),
    ],
)
def test_what_may_count_as_the_same_has_the_same_digest(left: object, right: object) -> None:
    assert one(left).digest == one(right).digest != ""


def golden() -> dict[str, str]:
    """Digests of a few inputs, as any process must compute them."""
    request = chat([say("You are terse.", "system"), *(say(f"question {i}") for i in range(9))], stream=True, user="u")
    found = {
        "text": one("What is it?\n\u00e9\ud800").digest,
        "json": one({"b": [1, 2.5, None, True], "a": {"x": "y"}}).digest,
        "keys": one({1: "a", "1": "b", None: "c", 1.5: "d"}).digest,
        "set": one({"a", "b", "c", "d", 1, 2.0, b"x"}).digest,
        "time": one([datetime(2026, 1, 2, 3, 4, tzinfo=UTC), date(2026, 1, 2), timedelta(1), Decimal("1.10")]).digest,
        "types": one([Path("/a"), UUID(int=1), range(3), int, b"\xff", float("nan"), 10**2000]).digest,
        "call": function_inputs(lambda q, n=3, *a, **k: None, ("q", 1, 2), {"z": {1, 2}}).digest,
        "request": request.digest,
        "earlier": request.arguments[2].digest,
    }
    return found


GOLDEN = {
    "text": "2bc8fa10d37376f6",
    "json": "fd0a24e225569a23",
    "keys": "a163f6566224aea3",
    "set": "8dae148bd388884c",
    "time": "e3bc9296d512e5c6",
    "types": "1951d9cc0ee8ad20",
    "call": "9659b9ad9b7d474cea1d9835b7df2eff",
    "request": "604a6b3c5a1f73b9a575e57bd4f03385",
    "earlier": "7ff204be5c1f7e1e",
}


def test_digests_never_change_or_recorded_steps_would_no_longer_match() -> None:
    assert golden() == GOLDEN


@pytest.mark.parametrize("seed", ["0", "1", "42"])
def test_digests_and_previews_are_the_same_in_every_process(seed: str) -> None:
    code = "import json, test_fingerprint as t; print(json.dumps([t.golden(), t.preview({'a', 'b', 'c', 1, None})]))"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == [GOLDEN, "{'a', 'b', 'c', 1, None}"]


# -- what is no data ----------------------------------------------------------------------------------------------


def endless() -> Iterator[int]:
    yield 1
    raise AssertionError("it was consumed")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (threading.Lock(), "<_thread.lock: not compared>"),
        (take, "<function: not compared>"),
        (endless(), "<generator: not compared>"),
        (map(str, [1]), "<map: not compared>"),
        (object(), "<object: not compared>"),
    ],
)
def test_what_is_no_data_is_shown_as_not_compared_and_has_no_digest(value: object, shown: str) -> None:
    assert one(value) == Argument(name="value", digest="", preview=shown)


def test_of_what_is_no_data_only_the_type_counts() -> None:
    assert function_inputs(take, (threading.Lock(),), {}) == function_inputs(take, (threading.Lock(),), {})
    assert function_inputs(take, (threading.Lock(),), {}).digest != function_inputs(take, (take,), {}).digest


def test_a_generator_is_not_consumed() -> None:
    numbers = endless()
    function_inputs(take, ({"a": [numbers]},), {})
    assert next(numbers) == 1


def test_no_method_of_the_callers_classes_is_called() -> None:
    assert one(Touchy()).preview.endswith("Touchy: not compared>")
    assert one([Touchy()]).digest == one([Touchy()]).digest
    assert one(TouchyList([1, 2])).preview == "[1, 2]"


# -- previews -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\x1b[31m\u202e\ud800", r"'a\nb\x1b[31m\u202e\ud800'"),
        ("x" * 1000, "'" + "x" * 78 + "…"),
        ({"a": [1, None, True]}, "{'a': [1, None, True]}"),
        (b"\x00secret", "<7 bytes>"),
        (Color.RED, "Color.RED"),
        (Query("q", key="hidden"), "Query(text='q', limit=10)"),
        (Login(user="a", token=SecretStr("hunter2"), note="n"), "Login(user='a', token='**********')"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Decimal("1.10"), "1.10"),
        (Path("/a b"), "'/a b'"),
        ({"c": threading.Lock()}, "{'c': <_thread.lock: not compared>}"),
    ],
)
def test_a_preview_is_one_short_line(value: object, shown: str) -> None:
    assert preview(value) == shown


def test_no_secret_is_shown() -> None:
    secret = SecretStr("hunter2")
    for value in (secret, [secret], {"k": secret}, Login(user="u", token=secret), Query("q", key="hunter2")):
        inputs = function_inputs(take, (value,), {})
        assert "hunter2" not in STORED.dump_json(inputs).decode()
    assert one(SecretStr("a")).digest != one(SecretStr("b")).digest


def test_a_preview_of_a_huge_value_looks_only_at_its_start() -> None:
    class Watched(list[object]):
        pass

    value = ["x" * 100, endless(), Watched(["never reached"])]
    assert preview(value) == "['" + "x" * 77 + "…"


# -- depth and circles --------------------------------------------------------------------------------------------


def circle(length: int) -> list[Any]:
    ring: list[Any] = []
    inner = ring
    for _ in range(length - 1):
        inner.append([])
        inner = inner[0]
    inner.append(ring)
    return ring


def test_circular_values_have_a_digest_and_a_preview() -> None:
    assert one(circle(1)).digest == one(circle(1)).digest != one(circle(2)).digest
    assert one(circle(1)).preview == "[" * 79 + "…"
    inner_to_itself: list[Any] = [[], 1]
    inner_to_itself[0].append(inner_to_itself[0])
    inner_to_outer: list[Any] = [[], 1]
    inner_to_outer[0].append(inner_to_outer)
    assert one(inner_to_itself).digest != one(inner_to_outer).digest


def nest(depth: int, core: object) -> object:
    for _ in range(depth):
        core = [core]
    return core


def test_64_levels_are_compared_and_deeper_ones_count_as_their_type() -> None:
    assert one(nest(63, [1])).digest != one(nest(63, [2])).digest
    assert one(nest(64, [1])).digest == one(nest(64, [2])).digest != one(nest(64, {})).digest
    assert one(nest(100_000, 1)).digest == one(nest(100_000, 2)).digest


def test_references_that_multiply_end_as_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical_module, "MAX_CONTAINERS", 1000)
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    assert one(value) == Argument(name="value", digest="", preview="<list: too large, not compared>")
    assert one([{"a": i} for i in range(999)]).digest != ""


# -- calls of functions -------------------------------------------------------------------------------------------


def ask(question: str, /, n: int = 3, *pages: str, client: object = None, **options: object) -> None: ...


class Agent:
    def ask(self, question: str, n: int = 3) -> None: ...

    @classmethod
    def build(cls, question: str) -> None: ...

    def __call__(self, question: str) -> None: ...


def test_arguments_are_bound_with_their_defaults() -> None:
    inputs = function_inputs(ask, ("q", 4, "p1", "p2"), {"client": None, "seed": 7, "question": "kw"})
    assert names(inputs) == ["question", "n", "pages[0]", "pages[1]", "client", "seed", "options['question']"]
    assert [a.preview for a in inputs.arguments] == ["'q'", "4", "'p1'", "'p2'", "None", "7", "'kw'"]


def test_how_an_argument_is_passed_makes_no_difference() -> None:
    def fetch(url: str, tries: int = 3, **options: int) -> None: ...

    calls = [
        function_inputs(fetch, ("u",), {}),
        function_inputs(fetch, (), {"tries": 3, "url": "u"}),
        function_inputs(functools.partial(fetch, "u"), (3,), {}),
        function_inputs(functools.partial(fetch, tries=3), ("u",), {}),
    ]
    assert [call.digest for call in calls] == [calls[0].digest] * 4
    options = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert len({function_inputs(fetch, ("u",), given).digest for given in options}) == 1


def asks(question: int, model: str = "m", limit: list[int] = [1]) -> None: ...  # noqa: B006


def asks_by_name(question: int, *, limit: int, model: str = "m") -> None: ...


@pytest.mark.parametrize("fn", [asks, asks_by_name])
def test_arguments_bound_without_the_signature_are_those_that_it_binds(
    fn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("question", "model", "limit", "other")
    named = [dict.fromkeys(names, 7) for n in range(4) for names in combinations(words, n)]
    calls = [(tuple(range(n)), kwargs) for n in range(5) for kwargs in named]
    plainly = [function_inputs(fn, *call) for call in calls]
    monkeypatch.setattr(fingerprint_module, "_plainly_bound", lambda *_: None)
    assert plainly == [function_inputs(fn, *call) for call in calls]


def test_a_function_or_method_whose_code_was_replaced_is_looked_at_again() -> None:
    class Shop:
        def find(self, one: int) -> None: ...

    def find(self: object, other: int) -> None: ...

    for fn, code in ((Shop().find, find.__code__), (take, (lambda other: None).__code__)):
        old = getattr(fn, "__func__", fn)
        before, kept = names(function_inputs(fn, (1,), {})), old.__code__
        old.__code__ = code
        try:
            after = names(function_inputs(fn, (1,), {}))
        finally:
            old.__code__ = kept
        assert (before, after) in ((["one"], ["other"]), (["value"], ["other"]))


def test_names_of_arguments_that_are_enum_members_are_not_taken_for_each_other() -> None:
    first, second = enum.StrEnum("first", "a"), enum.StrEnum("second", "a")

    def take_all(**more: int) -> None: ...

    digests = [function_inputs(take_all, (), {name: 1}).digest for name in ("a", first.a, second.a)]  # type: ignore[attr-defined]
    assert len(set(digests)) == 3


def test_what_a_partial_has_bound_counts() -> None:
    bound = [functools.partial(ask, question) for question in ("a", "b")]
    assert function_inputs(bound[0], (), {}).digest != function_inputs(bound[1], (), {}).digest


@pytest.mark.parametrize("fn", [Agent().ask, Agent.build, Agent()])
def test_what_a_method_is_bound_to_is_not_part_of_it(fn: Callable[..., object]) -> None:
    assert names(function_inputs(fn, ("q",), {}))[0] == "question"
    assert "self" not in names(function_inputs(fn, ("q",), {}))


def test_without_a_signature_arguments_are_numbered() -> None:
    inputs = function_inputs(dict, ([("a", 1)],), {"b": 2})
    assert [(a.name, a.preview) for a in inputs.arguments] == [("arg0", "[['a', 1]]"), ("b", "2")]


def test_a_decorator_that_supplies_an_argument_breaks_no_call() -> None:
    def inject(fn: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(fn)
        def inner(question: str) -> object:
            return fn("client", question)

        return inner

    @inject
    def answer(client: object, question: str) -> None: ...

    assert [a.preview for a in function_inputs(answer, ("q",), {}).arguments] == ["'q'"]


def test_ignored_arguments_do_not_count() -> None:
    ignore = ("client", "pages", "seed")
    calls = [("q", 1, "p"), {"client": 1, "seed": 1}], [("q", 1, "x", "y"), {"client": 2, "seed": 2}]
    digests = {function_inputs(ask, args, kwargs, ignore).digest for args, kwargs in calls}  # type: ignore[arg-type]
    assert len(digests) == 1
    assert names(function_inputs(ask, ("q", 1, "p"), {"client": 1, "seed": 1}, ignore)) == ["question", "n"]


def test_an_ignored_name_that_the_function_does_not_take_is_an_error() -> None:
    with pytest.raises(RunMisuse, match=r"'clent'.*Agent\.ask.*question, n"):
        function_inputs(Agent().ask, ("q",), {}, ["clent"])
    with pytest.raises(RunMisuse, match=r"is a string.*ignore=\('n',\)"):
        function_inputs(Agent().ask, ("q",), {}, "n")
    function_inputs(ask, ("q",), {}, ["an_option_not_given_this_time"])


def test_a_name_that_cannot_be_printed_is_escaped() -> None:
    assert names(function_inputs(ask, ("q",), {"a\n\ud800": 1}))[-1] == r"a\n\ud800"


# -- model calls --------------------------------------------------------------------------------------------------


def test_a_request_is_its_endpoint_and_its_body() -> None:
    inputs = chat([say("hi")], stream=True, temperature=0.5)
    assert names(inputs) == ["endpoint", "model", "messages[0]", "stream", "temperature"]
    assert inputs.digest != request_inputs("responses", {"model": "m", "messages": [say("hi")]}).digest
    for change in ({"stream": False}, {"temperature": 1}, {"model": "n"}, {"seed": 1}):
        assert chat([say("hi")], **{"stream": True, "temperature": 0.5, **change}).digest != inputs.digest


@pytest.mark.parametrize("field", sorted(UNCOUNTED))
def test_what_does_not_change_the_question_does_not_count(field: str) -> None:
    assert chat([say("hi")], **{field: {"a": 1}}) == chat([say("hi")])


def test_of_a_conversation_the_last_messages_are_kept_one_by_one() -> None:
    inputs = chat([say(f"m{i}") for i in range(13)])
    assert names(inputs) == ["endpoint", "model", "messages[:5]", *(f"messages[{i}]" for i in range(5, 13))]
    assert inputs.arguments[2].preview == "5 messages, the first user: m0"
    assert inputs.arguments[-1].preview == "user: m12"


@pytest.mark.parametrize(
    ("said", "alone"),
    [
        (["user"], [0]),
        (["system", "user", "user"], [0, 1, 2]),
        (["system", "user", "assistant", "user"], [2, 3]),
        (["user", "assistant", "tool", "tool"], [1, 2, 3]),
        (["user", "assistant", "user", "assistant", "assistant", "user"], [3, 4, 5]),
        (["user", "assistant"], [1]),
        (["user", "assistant", *["tool"] * 9], range(3, 11)),
    ],
)
def test_of_a_conversation_the_last_answer_and_what_follows_are_kept_one_by_one(
    said: list[str], alone: Sequence[int]
) -> None:
    start = [f"messages[:{alone[0]}]"] if alone[0] else []
    kept = names(chat([say(f"m{i}", role) for i, role in enumerate(said)]))
    assert kept == ["endpoint", "model", *start, *(f"messages[{i}]" for i in alone)]


def test_in_the_responses_api_what_a_model_did_has_no_role() -> None:
    asked, called = say("hi"), [{"type": "reasoning"}, {"type": "function_call", "name": "f"}]
    inputs = request_inputs("responses", {"input": [asked, *called, {"type": "function_call_output", "output": "5"}]})
    assert names(inputs) == ["endpoint", "input[:1]", "input[1]", "input[2]", "input[3]"]
    assert names(request_inputs("responses", {"input": ["hi", {"id": 1}, asked]}))[1:] == [
        f"input[{i}]" for i in range(3)
    ]


def test_the_preview_of_a_start_is_short() -> None:
    start = chat([say("x" * 200), say("y", "assistant"), say("z")]).arguments[2]
    assert start.name == "messages[:1]" and start.preview == "1 message, the first user: " + "x" * 20 + "…"


def test_what_is_stored_of_a_conversation_does_not_grow_with_it() -> None:
    sizes = [len(STORED.dump_json(chat([say("x" * 500)] * n))) for n in (TAIL + 1, 1000)]
    assert sizes[1] < sizes[0] + 50


@pytest.mark.parametrize("other", ["user", "assistant"])
def test_every_message_counts_wherever_it_stands(other: str) -> None:
    messages = [say(f"m{i}", "user" if i % 2 else other) for i in range(13)]
    digests = {chat(messages).digest}
    for i in range(13):
        changed = copy.deepcopy(messages)
        changed[i]["content"] = "other"
        digests.add(chat(changed).digest)
    assert len(digests) == 14
    assert chat([]).digest != request_inputs("chat", {"model": "m"}).digest


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (say("Hi\nthere"), r"user: Hi\nthere"),
        (say([{"type": "image_url"}, {"type": "text", "text": "Look"}]), "user: Look"),
        (say("x" * 200), "user: " + "x" * 73 + "…"),
        (say(None, "assistant"), "{'role': 'assistant', 'content': None}"),
        ({"type": "function_call_output", "output": "5"}, "{'type': 'function_call_output', 'output': '5'}"),
        ("just text", "'just text'"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_a_message_is_shown_as_who_said_what(message: object, shown: str) -> None:
    assert request_inputs("responses", {"input": [message]}).arguments[-1].preview == shown


def test_an_input_that_is_text_is_one_argument() -> None:
    assert names(request_inputs("responses", {"input": "hi"})) == ["endpoint", "input"]


# -- differences --------------------------------------------------------------------------------------------------


def test_equal_inputs_do_not_differ() -> None:
    assert difference(chat([say("a")] * 20), chat([say("a")] * 20)) == []
    assert difference(function_inputs(take, (take,), {}), function_inputs(take, (len,), {})) != []


def test_a_difference_shows_both_sides() -> None:
    old, new = function_inputs(ask, ("q", 1), {"seed": 1}), function_inputs(ask, ("r", 1), {"top": 2})
    assert difference(old, new) == [("question", "'q'", "'r'"), ("seed", "1", "—"), ("top", "—", "2")]


def test_a_difference_beyond_the_preview_says_so() -> None:
    shown = "'" + "x" * 78 + "… (differs further on)"
    old, new = function_inputs(take, ("x" * 100 + "a",), {}), function_inputs(take, ("x" * 100 + "b",), {})
    assert difference(old, new) == [("value", shown, shown)]


def test_of_a_longer_conversation_only_what_is_new_differs() -> None:
    messages, bare = [say(f"m{i}") for i in range(15)], request_inputs("chat", {"model": "m"})
    assert difference(chat(messages[:14]), chat(messages)) == [("messages[14]", "—", "user: m14")]
    assert difference(chat(messages), chat(messages[:14])) == [("messages[14]", "user: m14", "—")]
    assert difference(chat(messages[:8]), chat(messages[:9])) == [("messages[8]", "—", "user: m8")]
    assert names(chat(messages[:9])) == ["endpoint", "model", *(row[0] for row in difference(bare, chat(messages[:9])))]
    assert difference(chat(messages[:1]), chat([])) == [("messages[0]", "user: m0", "—"), ("messages", "—", "[]")]


def test_an_early_message_that_changed_is_pointed_at() -> None:
    messages = [say(f"m{i}") for i in range(13)]
    changed = [messages[0], say("other"), *messages[2:]]
    start = "5 messages, the first user: m0 (differs further on)"
    assert difference(chat(messages), chat(changed)) == [("messages[:5]", start, start)]


def test_a_change_of_what_is_kept_as_one_on_one_side_alone_is_shown() -> None:
    old, new = [say("a"), say("b"), say("c", "assistant")], [say("a"), say("b", "assistant"), say("c", "assistant")]
    assert difference(chat(old), chat(new)) == [
        ("messages[:2]", "2 messages, the first user: a", "—"),
        ("messages[:1]", "—", "1 message, the first user: a"),
        ("messages[1]", "—", "assistant: b"),
    ]


MESSAGES = st.lists(st.builds(say, st.sampled_from("ab"), st.sampled_from(["user", "assistant"])), max_size=20)


@given(MESSAGES, MESSAGES)
def test_conversations_that_differ_always_show_where(old: list[Any], new: list[Any]) -> None:
    assert bool(difference(chat(old), chat(new))) == (old != new)


@given(values, values)
def test_values_that_differ_always_show_it(left: object, right: object) -> None:
    old, new = function_inputs(take, (left,), {}), function_inputs(take, (right,), {})
    assert bool(difference(old, new)) == (old.digest != new.digest)


def test_canonical_text_is_json_for_what_json_can_hold() -> None:
    value = {"b": [1, 2.5, None, True, "x\n"], "a": {}}
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))
