"""Ids, names and keys: what is valid, and that no two steps ever share a slot."""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentcheckpoint.core.ids import check_key, check_name, check_namespace, check_run_id, is_slot, run_tag, slot
from agentcheckpoint.errors import InvalidName

Check = Callable[[object], str]
Part = tuple[str, int, str | None]
"""A step's name, its ordinal and its key."""

NFC, NFD = "caf\u00e9", "cafe\u0301"

printable = st.characters(exclude_categories=("Cc", "Cs"))
tricky = st.text(st.sampled_from("a]#[/2"), min_size=1, max_size=6)
keys = tricky | st.text(printable, min_size=1, max_size=8)
names = (
    st.sampled_from(["a", "b", "aa", "a2"])
    | st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/#[]"), min_size=1, max_size=6)
).map(lambda text: unicodedata.normalize("NFC", text))
parts = st.tuples(names, st.just(1), keys) | st.tuples(names, st.integers(1, 12), st.none())
paths = st.lists(parts, min_size=1, max_size=4)


def slot_of(path: list[Part]) -> str:
    scope = ""
    for name, ordinal, key in path:
        scope = slot(scope, name, key=key) if key is not None else slot(scope, name, ordinal=ordinal)
    return scope


def path_of(text: str) -> list[Part]:
    """Reads a slot, by the one rule that a key ends at its first single bracket."""
    path: list[Part] = []
    at = 0
    while at < len(text):
        end = next((i for i in range(at, len(text)) if text[i] in "/#["), len(text))
        name, ordinal, key = text[at:end], 1, None
        if text[end : end + 1] == "#":
            at, end = end + 1, next((i for i in range(end, len(text)) if text[i] == "/"), len(text))
            ordinal = int(text[at:end])
        elif text[end : end + 1] == "[":
            key, end = "", end + 1
            while text[end] != "]" or text[end : end + 2] == "]]":
                key += text[end]
                end += 2 if text[end] == "]" else 1
            end += 1
        path.append((name, ordinal, key))
        assert end == len(text) or text[end] == "/"
        at = end + 1
    return path


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (check_run_id, ["r", "x" * 512, "job 7/attempt#2[a]", NFC, "日本"]),
        (check_namespace, ["a", "prod_eu-1", "0" * 32]),
        (check_name, ["plan", "x" * 200, "make a plan", NFC]),
        (check_key, ["k", "x" * 512, "https://a/b?c=[1]#d", NFC, NFD]),
    ],
)
def test_what_is_valid_comes_back_unchanged(check: Check, good: list[str]) -> None:
    assert [check(text) for text in good] == good


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (check_run_id, ["", "x" * 513, "a\nb", "a\x00", "\x7f", "\x85", "\ud800", NFD, None, 7, b"r"]),
        (check_namespace, ["", "x" * 33, "Prod", "a/b", "a b", "a\n", "é", None, 7]),
        (check_name, ["", "x" * 201, "a/b", "a#2", "a[b", "a]", "a\tb", "\udfff", None, 7]),
        (check_key, ["", "x" * 513, "a\rb", "\udbff", None, 7]),
    ],
)
def test_what_is_not_valid_is_refused(check: Check, bad: list[object]) -> None:
    for text in bad:
        with pytest.raises(InvalidName):
            check(text)


def test_a_refusal_says_what_was_given_and_what_is_allowed() -> None:
    with pytest.raises(InvalidName, match=r"'a/b' \(str\) cannot be a step name\. Allowed: .*without / # \[ \]"):
        check_name("a/b")
    with pytest.raises(InvalidName, match=r"7 \(int\) cannot be a run id\. Allowed: a str of 1 to 512"):
        check_run_id(7)
    with pytest.raises(InvalidName) as caught:
        check_key("x" * 100_000)
    assert len(str(caught.value)) < 250


def test_two_spellings_of_a_name_that_look_alike_are_one_step() -> None:
    assert check_name(NFD) == NFC
    assert slot("", NFD) == slot("", NFC)


def test_two_spellings_of_a_key_are_two_steps_since_a_key_names_data() -> None:
    assert slot("", "read", key=NFD) != slot("", "read", key=NFC)


def test_the_text_of_an_enum_member_is_taken_as_a_plain_string() -> None:
    class Agent(str, enum.Enum):  # noqa: UP042 (its str() is not its text)
        PLANNER = "planner"

    for check in (check_run_id, check_namespace, check_name, check_key):
        assert type(check(Agent.PLANNER)) is str
        assert check(Agent.PLANNER) == "planner"


@given(st.text(max_size=8))
def test_a_checked_name_is_valid_and_stays_what_it_is(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidName:
        return
    assert check_name(name) == name
    assert not set(name) & set("/#[]")
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def test_a_run_tag_is_24_hex_digits_that_never_change() -> None:
    assert run_tag("default", "research-42") == "f1159eb13716ec9996022d09"


def test_run_tags_tell_namespace_and_id_apart() -> None:
    pairs = [("a", "b/c"), ("a", "b"), ("b", "a"), ("a", "b c"), ("ab", "c"), ("a", "bc")]
    assert len({run_tag(*pair) for pair in pairs}) == len(pairs)


def test_a_run_tag_is_refused_to_what_is_no_run() -> None:
    with pytest.raises(InvalidName, match="namespace"):
        run_tag("a/b", "c")
    with pytest.raises(InvalidName, match="run id"):
        run_tag("a", "")


def test_slots_read_like_what_was_written() -> None:
    assert slot("", "plan") == "plan"
    assert slot("", "plan", ordinal=1) == "plan"
    assert slot("", "plan", ordinal=2) == "plan#2"
    assert slot("", "fetch", key="https://a/b") == "fetch[https://a/b]"
    assert slot("answer", "search") == "answer/search"
    assert slot("answer#3", "search", key="x") == "answer#3/search[x]"


def test_a_key_that_looks_like_the_end_of_a_slot_is_no_other_slot() -> None:
    assert slot("", "a", key="x]/b") != slot(slot("", "a", key="x"), "b", ordinal=1)
    assert slot("", "a", key="x]/b[y") != slot(slot("", "a", key="x"), "b", key="y")
    assert slot("", "a", key="1") != slot("", "a", ordinal=1)


def test_an_ordinal_below_one_or_beside_a_key_is_refused() -> None:
    with pytest.raises(InvalidName, match="ordinal"):
        slot("", "plan", ordinal=0)
    with pytest.raises(InvalidName, match="ordinal"):
        slot("", "plan", ordinal=1, key="k")


@given(paths)
def test_each_slot_is_known_as_one(path: list[Part]) -> None:
    assert is_slot(slot_of(path))


@pytest.mark.parametrize(
    "text",
    ["", "/a", "a/", "a//b", "a#1", "a#02", "a#٣", "a#2#3", "a[]", "a[x]b", "a[x]y]", "a\nb", "a[\x1b]", "a\n", "#2"],
)
def test_what_no_step_is_called_is_no_slot(text: str) -> None:
    assert not is_slot(text)


@given(paths)
@settings(max_examples=300)
@example([("a", 1, "]")])
@example([("a", 1, "x]/b"), ("b", 2, None)])
def test_every_slot_can_be_read_back_so_no_two_are_the_same(path: list[Part]) -> None:
    assert path_of(slot_of(path)) == path


@given(paths, paths)
@settings(max_examples=300)
def test_different_scopes_names_ordinals_and_keys_give_different_slots(one: list[Part], other: list[Part]) -> None:
    assert (slot_of(one) == slot_of(other)) == (one == other)
