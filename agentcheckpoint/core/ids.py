"""What may be an id, a name or a key, and how steps are named: one place says what is valid."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
import unicodedata
from collections.abc import Container, Iterable, Mapping
from typing import cast

from agentcheckpoint.errors import InvalidName

MAX_RUN_ID = 512
MAX_NAME = 200
MAX_KEY = 512
MAX_TAG = 100
MOST_TAGS = 20
MOST_METADATA, MAX_METADATA = 50, 1_000

_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAMESPACE = re.compile(r"[a-z0-9_-]{1,32}")
_RESERVED = re.compile(r"[/#\[\]]")

_STEP = r"[^\x00-\x1f\x7f-\x9f/#\[\]]+(?:#(?:[2-9]|[1-9][0-9]{1,8})|\[(?:[^\x00-\x1f\x7f-\x9f\]]|\]\])+\])?"
_SLOT = re.compile(f"{_STEP}(?:/{_STEP})*")
_EACH_STEP = re.compile(f"(?:^|/){_STEP}")
_WHICH = re.compile(r"#[0-9]+|\[([^\]]|\]\])+\]")
"""What tells a slot from others of its name: an ordinal, or a key, which may hold anything."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def check_run_id(text: object) -> str:
    """Returns the run id, unchanged.

    It is compared with the ids of other systems (a queue's, a database's), so it is never rewritten; and it must be
    in Unicode normal form C, or two ids that look alike would be two runs, each paid for.

    Args:
        text: 1 to 512 characters, in NFC, no control characters, no surrogates.

    Raises:
        InvalidName: it is not that.
    """
    run_id = _text("run id", text, MAX_RUN_ID)
    if not unicodedata.is_normalized("NFC", run_id):
        raise _invalid("run id", text, "Unicode normal form C; unicodedata.normalize('NFC', run_id) gives it")
    return run_id


def check_namespace(text: object) -> str:
    """Returns the namespace, unchanged.

    Args:
        text: 1 to 32 of the characters a-z, 0-9, ``_`` and ``-``.

    Raises:
        InvalidName: it is not that.
    """
    if not isinstance(text, str) or _NAMESPACE.fullmatch(text) is None:
        raise _invalid("namespace", text, "1 to 32 of the characters a-z, 0-9, _ and -")
    return str.__str__(text)


def check_name(text: object) -> str:
    """Returns the step name in Unicode normal form C.

    A name is a label in the source, and which of two equal-looking spellings an editor wrote is no reason to pay
    again: so it is normalised, not refused.

    Args:
        text: 1 to 200 characters, no control characters, no surrogates, none of ``/ # [ ]``.

    Raises:
        InvalidName: it is not that.
    """
    name = _text("step name", text, MAX_NAME)
    if _RESERVED.search(name):
        raise _invalid("step name", text, "any text without / # [ ]; what varies goes into key=, which may hold them")
    if name.isascii():
        return name
    return _text("step name", unicodedata.normalize("NFC", name), MAX_NAME)


def check_key(text: object) -> str:
    """Returns the key of a step, unchanged: it names data (a URL, a path), whose spelling may matter.

    Args:
        text: 1 to 512 characters, no control characters, no surrogates.

    Raises:
        InvalidName: it is not that.
    """
    return _text("step key", text, MAX_KEY)


def check_budget_name(text: object) -> str:
    """Returns the name of a shared budget in Unicode normal form C: two spellings of a name are one budget.

    Args:
        text: 1 to 200 characters, no control characters, no surrogates.

    Raises:
        InvalidName: it is not that.
    """
    return _text("budget name", unicodedata.normalize("NFC", _text("budget name", text, MAX_NAME)), MAX_NAME)


def check_tags(tags: object) -> tuple[str, ...]:
    """Returns the tags of a run in Unicode normal form C, each once, in the order of the alphabet.

    Args:
        tags: at most 20, each of 1 to 100 characters, no control characters, no surrogates.

    Raises:
        InvalidName: they are not that; or they are one text, whose letters would be the tags.
    """
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise _invalid("collection of tags", tags, 'a tuple or list of texts, such as tags=("team-a",)')
    found = {unicodedata.normalize("NFC", _text("tag", tag, MAX_TAG)) for tag in cast("Iterable[object]", tags)}
    if len(found) > MOST_TAGS:
        raise _invalid("collection of tags", f"{len(found)} tags", f"at most {MOST_TAGS} tags")
    return tuple(sorted(_text("tag", tag, MAX_TAG) for tag in found))


def check_conversation(text: object) -> str:
    """Returns the name of a conversation, unchanged: the same rules as for a run's id. Raises ``InvalidName``."""
    return _text("name of a conversation", text, MAX_RUN_ID)


def check_metadata(given: object) -> dict[str, str]:
    """Returns what a caller notes about a run.

    Args:
        given: at most 50 pairs of texts: names of 1 to 100 characters, values of at most 1,000.

    Raises:
        InvalidName: it is not that.
    """
    if not isinstance(given, Mapping):
        raise _invalid("metadata", given, 'a dict of texts, such as metadata={"user": "42"}')
    pairs = cast("Mapping[object, object]", given)
    if len(pairs) > MOST_METADATA:
        raise _invalid("metadata", f"{len(pairs)} pairs", f"at most {MOST_METADATA} pairs")
    for name, value in pairs.items():
        _text("name in metadata", name, MAX_TAG)
        if not isinstance(value, str) or len(value) > MAX_METADATA:
            raise _invalid(f"metadata[{name!r}]", value, f"a text of at most {MAX_METADATA:,} characters")
    return cast("dict[str, str]", dict(pairs))


def run_tag(namespace: str, run_id: str) -> str:
    """Returns the 24 hex digits that stand for a run in the names of its keys.

    Raises:
        InvalidName: the namespace or the run id is not valid.
    """
    # A valid namespace holds no slash, so the first slash ends it: no two runs share a text.
    text = f"{check_namespace(namespace)}/{check_run_id(run_id)}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def budget_tag(namespace: str, name: str) -> str:
    """Returns the 24 hex digits that stand for a shared budget in the names of its keys.

    Raises:
        InvalidName: the namespace or the name is not valid.
    """
    # A namespace holds no space: this is no run's text.
    text = f"budget {check_namespace(namespace)}/{check_budget_name(name)}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def slot(scope: str, name: str, *, ordinal: int | None = None, key: str | None = None) -> str:
    """Returns the slot of a step: ``plan``, ``plan#2``, ``fetch[key]``, or a child's ``answer/search``.

    Different scopes, names, ordinals and keys give different slots. Inside a key only ``]`` is changed: it is
    doubled, so the first single one ends the key.

    Args:
        scope: the slot of the enclosing step; empty at the top of a run.
        name: the step's name.
        ordinal: which of the siblings of that name, from 1; 1 leaves no trace.
        key: the step's own key, instead of an ordinal.

    Raises:
        InvalidName: the name or key is not valid, the ordinal is below 1, or a key came with an ordinal.
    """
    if ordinal is not None and (key is not None or ordinal < 1):
        raise _invalid("ordinal", ordinal, "1 or more, and none beside a key")
    local = check_name(name)
    if key is not None:
        local += f"[{check_key(key).replace(']', ']]')}]"
    elif ordinal is not None and ordinal > 1:
        local += f"#{ordinal}"
    return f"{scope}/{local}" if scope else local


def sibling(base: str, ordinal: int) -> str:
    """The slot of one of several calls of a name in a scope, from the slot of the first."""
    return base if ordinal == 1 else f"{base}#{ordinal}"


def idempotency_key(namespace: str, run_id: str, birth: str, slot: str, digest: str) -> str:
    """Returns the key by which another system knows a step's call again: ``ac-`` and 32 hex digits.

    Args:
        namespace, run_id: which run.
        birth: the id of its birth mark: a run of the same name, made after this one was deleted, is another.
        slot, digest: which step, and the fingerprint of its inputs.
    """
    text = json.dumps([namespace, run_id, birth, slot, digest])
    return f"ac-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def names_in(slot: str) -> str:
    """The names in a slot, without what tells its calls apart: ``answer/fetch`` of ``answer#2/fetch[key]``."""
    return _WHICH.sub("", slot)


def is_slot(text: str) -> bool:
    """Whether ``slot`` may have made this, as far as its form tells."""
    return _SLOT.fullmatch(text) is not None


def is_inside(slot: str, slots: Container[str]) -> bool:
    """Whether a slot lies inside one of these, at any depth."""
    return "/" in slot and any(slot[:i] in slots for i, char in enumerate(slot) if char == "/")


def enclosing(slot: str) -> list[str]:
    """The slots of the steps that this one lies inside of, the outermost first."""
    if "/" not in slot:
        return []
    ends = [step.end() for step in _EACH_STEP.finditer(slot)]
    return [slot[:end] for end in ends[:-1]]


def split_slot(slot: str) -> tuple[str, int]:
    """A slot's name in its scope, and its ordinal; a keyed slot stands alone."""
    base, _, ordinal = slot.rpartition("#")
    if not slot.endswith("]") and ordinal.isascii() and ordinal.isdigit():
        return base, int(ordinal)
    return slot, 1


def _text(what: str, text: object, most: int) -> str:
    if not isinstance(text, str):
        raise _invalid(what, text, f"a str of 1 to {most} characters")
    if not 1 <= len(text) <= most:
        raise _invalid(what, text, f"1 to {most} characters; this has {len(text)}")
    if found := _UNSTORABLE.search(text):
        raise _invalid(what, text, f"no control characters and no surrogates, such as U+{ord(found[0]):04X}")
    return str.__str__(text)  # of a str subclass: an enum member's text, not its name


def _invalid(what: str, given: object, allowed: str) -> InvalidName:
    return InvalidName(f"{_SHORT.repr(given)} ({type(given).__name__}) cannot be a {what}. Allowed: {allowed}.")
