"""Results: what a step returns first is what it returns on replay, in type and value; or an error says where not."""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_serializer,
)
from typing_extensions import TypedDict

from agentcheckpoint.core.codec import (
    MAX_BYTES,
    UNANNOTATED,
    ResultType,
    annotation_of,
    check_type,
    result_type,
)
from agentcheckpoint.errors import CheckpointCorrupt, ResultNotStorable, RunMisuse

T = TypeVar("T")

PLAIN = result_type(UNANNOTATED)
BERLIN = ZoneInfo("Europe/Berlin")
NAN = float("nan")


class Color(enum.Enum):
    RED = "r"


class Size(enum.IntEnum):
    SMALL = 1


class Kind(enum.StrEnum):
    A = "a"


class Point(NamedTuple):
    x: int
    y: Any


class Options(TypedDict):
    depth: int


@dataclasses.dataclass
class Page:
    url: str
    body: bytes = b""
    score: float = 0.0


@dataclasses.dataclass
class LongPage(Page):
    pages: int = 1


class Plan(BaseModel):
    goal: str
    steps: list[str] = []
    notes: dict[str, Any] = {}


class DeepPlan(Plan):
    depth: int = 1


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    max_tokens: int = Field(validation_alias=AliasChoices("maxTokens", "max"), serialization_alias="limit")

    @computed_field
    def double(self) -> int:
        return 2 * self.max_tokens


class Login(BaseModel):
    token: SecretStr


class Revealed(Login):
    @field_serializer("token", when_used="json")
    def reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()


class Measured(BaseModel):
    value: float
    raw: bytes = b""


class Remembering(BaseModel):
    a: int
    _calls: int = PrivateAttr(default=0)


class Stubborn(BaseModel):
    a: int

    @field_serializer("a")
    def refuse(self, a: int) -> int:
        raise RuntimeError("boom")


class Opaque:
    pass


class Custom(BaseModel):
    """What JSON cannot hold, stored all the same by a serializer of its own."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    opaque: Opaque

    @field_serializer("opaque")
    def write(self, opaque: Opaque) -> str:
        return "opaque"


def same(one: object, other: object) -> bool:
    """Equal in type and value, and in the sign of zero; nan is nan. Written apart from the code under test."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1, one) == math.copysign(1, other) if one == other else one != one and other != other
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)  # type: ignore[attr-defined]
        return len(one) == len(other) and all(same(a, b) and same(x, y) for (a, x), (b, y) in pairs)  # type: ignore[arg-type]
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))  # type: ignore[arg-type]
    return one == other


def refused(kind: ResultType[Any], value: object) -> ResultNotStorable:
    with pytest.raises(ResultNotStorable) as caught:
        kind.encode(value)
    assert caught.value.value is value
    assert caught.value.path in str(caught.value)
    return caught.value


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
jsons = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))
odd = st.binary(max_size=2) | st.sets(st.integers(), max_size=1) | st.dates() | st.decimals() | st.uuids() | st.text()
lossy = st.recursive(
    scalars | odd,
    lambda inner: st.lists(inner, max_size=3)
    | st.tuples(inner)
    | st.dictionaries(st.text(max_size=2) | st.integers(0, 3) | st.booleans() | st.none(), inner, max_size=3),
)


# -- without a type -----------------------------------------------------------------------------------------------


@given(jsons)
@settings(max_examples=300)
def test_any_json_value_comes_back_exactly_without_a_type(value: object) -> None:
    data, back = PLAIN.encode(value)
    assert same(back, value)
    assert same(PLAIN.decode(data), value)


@given(lossy)
@settings(max_examples=300)
def test_without_a_type_a_value_comes_back_exactly_or_is_refused(value: object) -> None:
    try:
        data, back = PLAIN.encode(value)
    except ResultNotStorable as error:
        assert error.value is value
        return
    assert same(back, value)
    assert same(PLAIN.decode(data), value)


@given(lossy)
@settings(max_examples=300)
def test_in_a_loose_type_a_value_comes_back_exactly_or_is_refused(value: object) -> None:
    kind = result_type(dict[str, Any])
    try:
        data, back = kind.encode({"it": value})
    except ResultNotStorable:
        return
    assert same(back["it"], value)
    assert same(kind.decode(data)["it"], value)


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append({"x": ring})
    return ring


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def numbers() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        ({"a": [1, {"b": (1,)}]}, "$.a[1].b", "tuple is not plain JSON"),
        ({"a b": {1, 2}}, "$['a b']", "set is not plain JSON"),
        ([b"x"], "$[0]", "bytes is not plain JSON"),
        ({"a": {1: "x"}}, "$.a[1]", "a key is of type int"),
        ({None: "x"}, "$[None]", "a key is of type NoneType"),
        ([{"a": "\ud800"}], "$[0].a", "surrogates not allowed"),
        ({"a": lambda: 1}, "$.a", "function is not plain JSON"),
        (numbers(), "$", "generator is not plain JSON"),
        ([datetime.now(UTC)], "$[0]", "datetime.datetime is not plain JSON"),
        ([Size.SMALL], "$[0]", "Size is not plain JSON"),
        ([OrderedDict(a=1)], "$[0]", "OrderedDict is not plain JSON"),
        ([SecretStr("hunter2")], "$[0]", "SecretStr is not plain JSON"),
        (circle(), "$[0].x", "circular reference"),
        (nest(65), "$" + "[0]" * 64, "deeper than 64"),
        ([0, 10**5000], "$[1]", "int cannot be written"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_path(value: object, path: str, why: str) -> None:
    error = refused(PLAIN, value)
    assert error.path == path
    assert why in str(error)
    assert "annotate the function's return type, or pass returns=" in str(error)


def test_64_levels_are_stored() -> None:
    data, back = PLAIN.encode(nest(64))
    assert same(back, nest(64))
    assert data == b"[" * 64 + b"]" * 64


def test_a_result_over_32_mib_is_refused_with_its_size() -> None:
    error = refused(PLAIN, "x" * MAX_BYTES)
    assert "33,554,434 bytes" in str(error)
    assert "33,554,432 are allowed" in str(error)
    assert PLAIN.encode("x" * (MAX_BYTES - 2))[1] == "x" * (MAX_BYTES - 2)


@pytest.mark.parametrize("annotation", [UNANNOTATED, Any, object, T])
def test_any_object_and_a_bare_type_variable_announce_nothing(annotation: object) -> None:
    assert "not plain JSON" in str(refused(result_type(annotation), (1,)))


# -- with a type --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value", "stored"),
    [
        (float, 1, b"1.0"),
        (None, None, b"null"),
        (bytes, b"\xff\xfb", b'"__s="'),
        (float, math.inf, b"Infinity"),
        (Decimal, Decimal("1.10"), b'"1.10"'),
        (timedelta, timedelta(days=-1, microseconds=1), b'"-PT23H59M59.999999S"'),
        (time, time(1, 2, 3, 4), b'"01:02:03.000004"'),
        (Path, Path("/a"), b'"/a"'),
        (Color, Color.RED, b'"r"'),
        (Size, Size.SMALL, b"1"),
        (Point, Point(1, "a"), b'[1,"a"]'),
        (tuple[int, ...], (1, 2), b"[1,2]"),
        (frozenset[int], frozenset({1}), b"[1]"),
        (deque[int], deque([1]), b"[1]"),
        (Counter[str], Counter("a"), b'{"a":1}'),
        (defaultdict[str, int], defaultdict(int, a=1), b'{"a":1}'),
        (dict[int, date], {1: date(2026, 1, 2)}, b'{"1":"2026-01-02"}'),
        (dict[uuid.UUID, bool], {uuid.UUID(int=1): True}, b'{"00000000-0000-0000-0000-000000000001":true}'),
        (Page, Page("u", b"\xff", math.inf), b'{"url":"u","body":"_w==","score":Infinity}'),
        (Options, {"depth": 1}, b'{"depth":1}'),
        (Plan | DeepPlan, DeepPlan(goal="g"), b'{"goal":"g","steps":[],"notes":{},"depth":1}'),
        (Aliased, Aliased(max=3), b'{"max_tokens":3}'),  # type: ignore[call-arg]
        (Revealed, Revealed(token=SecretStr("t")), b'{"token":"t"}'),
        (Annotated[int, Field(gt=0)], 5, b"5"),
        (Annotated[int, {"not": "hashable"}], 5, b"5"),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (datetime, datetime(2026, 1, 2, tzinfo=ZoneInfo("UTC")), b'"2026-01-02T00:00:00Z"'),
        (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), b'"2026-01-02T00:00:00+02:00"'),
        (datetime, datetime(2026, 1, 2), b'"2026-01-02T00:00:00"'),
    ],
)
def test_a_typed_value_comes_back_in_its_type(annotation: Any, value: object, stored: bytes) -> None:
    kind = result_type(annotation)
    data, back = kind.encode(value)
    assert data == stored
    assert back == value
    assert type(back) is (float if annotation is float else type(value))
    assert kind.decode(data) == back


def test_the_first_run_gets_what_a_replay_gets() -> None:
    kind = result_type(dict[str, float])
    data, back = kind.encode({"a": 1})
    assert type(back["a"]) is type(kind.decode(data)["a"]) is float
    plan = Plan(goal="g")
    assert result_type(Plan).encode(plan)[1] is not plan


def test_nan_is_equal_to_nan_wherever_it_stands() -> None:
    for annotation, value in [
        (float, NAN),
        (set[float], {NAN, 1.0}),
        (Point, Point(1, [NAN])),
        (Page, Page("u", score=NAN)),
        (dict[str, Any], {"a": {"b": NAN}}),
        (UNANNOTATED, {"a": [NAN]}),
    ]:
        data, _ = result_type(annotation).encode(value)
        assert b"NaN" in data


def test_a_dict_that_fits_the_announced_model_becomes_the_model() -> None:
    assert result_type(Plan).encode({"goal": "g"})[1] == Plan(goal="g")


def test_private_attributes_are_no_part_of_a_value() -> None:
    value = Remembering(a=1)
    value._calls = 5
    assert result_type(Remembering).encode(value)[1]._calls == 0


@pytest.mark.parametrize(
    ("annotation", "value", "path", "why"),
    [
        (Plan, DeepPlan(goal="g", depth=5), "$", "DeepPlan would come back as tests.Plan"),
        (list[Plan], [Plan(goal="g"), DeepPlan(goal="g")], "$[1]", "DeepPlan would come back as"),
        (Page, LongPage("u", pages=9), "$", "LongPage would come back as"),
        (dict[str, Plan], {"a": Plan(goal="g", notes={"k": (1,)})}, "$.a.notes.k", "tuple would come back as list"),
        (Sequence[int], (1,), "$", "tuple would come back as list"),
        (Point, Point(1, {2}), "$.y", "set would come back as list"),
        (dict[str, Any], {"a": [1, {"b": Decimal("1.0")}]}, "$.a[1].b", "decimal.Decimal would come back as str"),
        (dict[str, Any], {"a": {1: 2}}, "$.a[1]", "would not come back"),
        (dict[Any, int], {Size.SMALL: 2}, "$[<tests.Size>]", "would not come back"),
        (dict[Any, int], {Kind.A: 2}, "$.a", "would not come back"),
        (set[Any], {Kind.A}, "$.a", "would not come back"),
        (dict[str, Any], {"a": [len]}, "$.a[0]", "builtin_function_or_method cannot be written"),
        (dict[str, Any], {"a": ["\udfff"]}, "$.a[0]", "surrogates not allowed"),
        (dict[str, Any], {"a": circle()}, "$.a[0].x", "circular reference"),
        (dict[str, Any], {"a": nest(65)}, "$.a" + "[0]" * 63, "deeper than 64"),
        (list[Options], [{"depth": 1, "width": 2}], "$[0].width", "not part of the announced type"),
        (Login, Login(token=SecretStr("hunter2")), "$.token", "stored as asterisks"),
        (datetime, datetime(2026, 7, 1, tzinfo=BERLIN), "$", "time zone"),
        (list[int], numbers(), "$", "can be consumed only once"),
        (Plan, {"goal": 5}, "$.goal", "Input should be a valid string"),
        (None, 5, "$", "Input should be None"),
        (dict[Literal[1, 2], int], {1: 5}, "$['1']", "could not be read back"),
        (list[Measured], [Measured(value=NAN)], "$[0].value", "ser_json_inf_nan='constants'"),
        (list[Measured], [Measured(value=1, raw=b"\xff")], "$[0]", "ser_json_bytes='base64'"),
        (Plan, Plan.model_construct(goal=5), "$", "Expected `str`"),
        (list[Stubborn], [Stubborn(a=1)], "$[0]", "boom"),
        (list[Custom | Stubborn], [Custom(opaque=Opaque()), Stubborn(a=1)], "$[1]", "boom"),
    ],
)
def test_what_the_type_does_not_hold_is_refused_by_its_path(
    annotation: Any, value: object, path: str, why: str
) -> None:
    error = refused(result_type(annotation), value)
    assert error.path.replace(f"{__name__}.", "tests.") == path
    assert why in str(error).replace(f"{__name__}.", "tests.")


def test_no_refusal_shows_what_was_in_the_value() -> None:
    for annotation, value in [
        (Login, Login(token=SecretStr("hunter2"))),
        (Plan, Plan.model_construct(goal=["hunter2"])),
        (int, "hunter2"),
        (Plan, {"goal": 1, "steps": "hunter2"}),
    ]:
        assert "hunter2" not in str(refused(result_type(annotation), value))


def test_a_value_whose_comparison_raises_is_refused_not_raised_through() -> None:
    class Prickly(SimpleNamespace):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        @classmethod
        def __get_pydantic_core_schema__(cls, source: object, handler: Callable[[Any], Any]) -> Any:
            from pydantic_core import core_schema

            to_json = core_schema.plain_serializer_function_ser_schema(lambda _: {})
            return core_schema.no_info_plain_validator_function(lambda _: cls(), serialization=to_json)

    assert "does not compare equal" in str(refused(result_type(Prickly), Prickly()))


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "data", "why"),
    [
        (UNANNOTATED, b"", "plain JSON"),
        (UNANNOTATED, b'{"a":', "plain JSON"),
        (UNANNOTATED, b"\xff", "plain JSON"),
        (UNANNOTATED, '{"a":1}'.encode("utf-16"), "plain JSON"),
        (UNANNOTATED, b"[" * 100_000, "recursion limit"),
        (Plan, b"[" * 100_000, "recursion limit"),
        (Plan, b"{", r"at \$: Invalid JSON"),
        (Plan, b'{"steps":[]}', r"at \$\.goal: Field required"),
        (list[Plan], b'[{"goal":"g"},{"goal":5}]', r"at \$\[1\]\.goal: Input should be a valid string"),
        (int, b'"5"', "valid integer"),
        (str, b"5", "valid string"),
        (int, b" " * (MAX_BYTES + 1), "33,554,433 bytes"),
    ],
)
def test_what_does_not_fit_the_type_says_that_the_type_changed_or_the_record_is_corrupt(
    annotation: Any, data: bytes, why: str
) -> None:
    with pytest.raises(CheckpointCorrupt, match=why) as caught:
        result_type(annotation).decode(data)
    assert "the type has changed since it was recorded, or the record is corrupt" in str(caught.value)
    assert "Step(version=...) runs the step again" in str(caught.value)


@given(st.binary(max_size=20), st.sampled_from([UNANNOTATED, Plan, Page, list[int], Point, datetime]))
def test_garbage_is_corrupt_and_nothing_else(data: bytes, annotation: Any) -> None:
    try:
        result_type(annotation).decode(data)
    except CheckpointCorrupt as error:
        assert "cannot be read as" in str(error)


def test_a_field_that_got_a_default_since_reads_old_records() -> None:
    assert result_type(DeepPlan).decode(result_type(Plan).encode(Plan(goal="g"))[0]) == DeepPlan(goal="g", depth=1)


# -- which type ---------------------------------------------------------------------------------------------------


def test_a_type_that_pydantic_does_not_know_is_refused_before_anything_runs() -> None:
    for annotation in (Opaque, list[Opaque], Iterator[int], range):
        with pytest.raises(RunMisuse, match=r"cannot be stored.*returns="):
            check_type(annotation)
    with pytest.raises(RunMisuse, match="Opaque"):
        check_type(dict[str, Opaque])
    check_type(dict[str, Plan])


def test_a_model_with_a_reference_that_leads_nowhere_is_refused_before_anything_runs() -> None:
    class Broken(BaseModel):
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(RunMisuse, match="Nowhere"):
        check_type(Broken)


def test_one_type_is_built_once() -> None:
    assert result_type(list[Plan]) is result_type(list[Plan])


def test_unions_that_differ_in_order_are_not_mixed_up() -> None:
    class One(BaseModel):
        a: int

    class Other(BaseModel):
        a: int

    assert result_type(One | Other).encode(One(a=1))[1] == One(a=1)
    assert result_type(Other | One).encode(Other(a=1))[1] == Other(a=1)
    refused(result_type(One | Other), Other(a=1))


class Box(Generic[T]):
    def open(self) -> list[int]:
        return [1]

    def __call__(self) -> dict[str, int]:
        return {}

    @classmethod
    def made(cls) -> Plan:
        return Plan(goal="g")

    @staticmethod
    def plain() -> Color:
        return Color.RED


def wrapper(fn: Callable[..., T]) -> Callable[..., T]:
    @functools.wraps(fn)
    def inner(*args: Any) -> Any:
        return fn(*args)

    return inner


def make_plan(question: Nowhere) -> Plan:  # type: ignore[name-defined]  # noqa: F821
    return Plan(goal=str(question))


async def fetch(url: str) -> Page:
    return Page(url)


def promise() -> Awaitable[Page]:
    return fetch("u")


def coroutine() -> Coroutine[Any, Any, list[Page]]:
    raise NotImplementedError


def identity(value: T) -> T:
    return value


def bounded() -> Annotated[int, "above zero"]:
    return 1


@pytest.mark.parametrize(
    ("fn", "annotation"),
    [
        (make_plan, Plan),
        (fetch, Page),
        (promise, Page),
        (coroutine, list[Page]),
        (identity, T),
        (bounded, Annotated[int, "above zero"]),
        (Box[int]().open, list[int]),
        (Box[int](), dict[str, int]),
        (Box.made, Plan),
        (Box.plain, Color),
        (Plan, Plan),
        (functools.partial(functools.partial(make_plan, "q")), Plan),
        (wrapper(fetch), Page),
        (functools.lru_cache(make_plan), Plan),
        (lambda: 1, UNANNOTATED),
        (len, UNANNOTATED),
        (test_one_type_is_built_once, type(None)),
    ],
)
def test_the_return_type_is_found(fn: Callable[..., object], annotation: object) -> None:
    assert annotation_of(fn) == annotation


def test_a_class_that_cannot_be_found_by_its_name_asks_for_returns() -> None:
    class Local(BaseModel):
        a: int

    def make() -> Local:
        return Local(a=1)

    with pytest.raises(RunMisuse, match=r"'Local' of .*make cannot be resolved.*returns="):
        annotation_of(make)


def test_a_result_given_instead_of_a_function_is_named() -> None:
    with pytest.raises(RunMisuse, match=r"Plan is not callable: give the function itself"):
        annotation_of(Plan(goal="g"))  # type: ignore[arg-type]


def test_an_object_that_answers_to_every_attribute_is_no_endless_wrapper() -> None:
    class Remote:
        def __getattr__(self, name: str) -> Remote:
            return Remote()

        def __call__(self) -> int:
            return 1

    assert annotation_of(Remote()) is int
