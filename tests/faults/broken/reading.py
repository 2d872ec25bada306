"""The reading of stored records, broken: each of these the corruption search must catch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from agentcheckpoint import marking
from agentcheckpoint.core.chain import Chain
from agentcheckpoint.core.codec import ResultType
from agentcheckpoint.core.models import payload_of
from agentcheckpoint.errors import StoreError
from agentcheckpoint.store import claim, loading, marks, reading

from ..corruption import ENGINE, Damage
from ..variants import Variant


@contextmanager
def _with_load(broken: Callable[..., Any]) -> Iterator[None]:
    load = loading.parse_load
    with ExitStack() as stack:
        for module in (loading, claim, reading):
            stack.enter_context(patch.object(module, "parse_load", lambda *args: broken(load, *args)))
        yield


def _readable(run_id: str, key: str, lines: Any) -> list[bytes]:
    found: list[bytes] = []
    for index, line in enumerate(lines):
        with contextlib.suppress(StoreError):
            loading.parse_entry(run_id, key, index, line)
            found.append(line)
    return found


def _swallowing(load: Any, keys: Any, namespace: str, run_id: str, token: str, replies: Any) -> Any:
    if not isinstance(replies[0], list):
        return load(keys, namespace, run_id, token, replies)
    return load(keys, namespace, run_id, token, [_readable(run_id, keys.log(token), replies[0]), *replies[1:]])


def _believing(load: Any, keys: Any, namespace: str, run_id: str, token: str, replies: Any) -> Any:
    """Takes the log for whole, however many results stand beside it."""
    lines = replies[0]
    if not isinstance(lines, list) or not isinstance(replies[2], int):
        return load(keys, namespace, run_id, token, replies)
    entries = [loading.parse_entry(run_id, keys.log(token), i, line) for i, line in enumerate(lines)]
    kept = sum(payload_of(entry) is not None for entry in entries)
    return load(keys, namespace, run_id, token, [*replies[:2], 1 + kept, *replies[3:]])


@contextmanager
def _birth_unchecked() -> Iterator[None]:
    with patch.object(loading, "_check_birth", lambda *args: None):
        yield


@contextmanager
def _any_schema() -> Iterator[None]:
    with patch.object(loading, "SCHEMA", 10**12):
        yield


@contextmanager
def _meta_unchecked() -> Iterator[None]:
    with patch.object(loading, "check_meta", lambda *args: None):
        yield


@contextmanager
def _claims_first() -> Iterator[None]:
    """A claim writes before it knows whether it may."""
    with patch.object(claim, "parse_fields", lambda *args: {"state": "completed", "attempt": "1"}):
        yield


def _import_named(document: Any) -> None:
    named = document.get("__class__") if isinstance(document, dict) else None
    if isinstance(named, str) and "." in named:
        __import__(named.rpartition(".")[0])


@contextmanager
def _records_name_classes() -> Iterator[None]:
    parse = loading.parse_entry

    def reviving(run_id: str, key: str, index: int, line: bytes) -> Any:
        entry = parse(run_id, key, index, line)
        _import_named(json.loads(line))
        return entry

    with patch.object(loading, "parse_entry", reviving):
        yield


@contextmanager
def _results_name_classes() -> Iterator[None]:
    load = ResultType._load

    def reviving(self: Any, data: bytes) -> Any:
        with contextlib.suppress(ValueError, RecursionError):
            _import_named(json.loads(data))
        return load(self, data)

    with patch.object(ResultType, "_load", reviving), patch.object(Chain, "decode", lambda self, data, *args: data):
        yield


@contextmanager
def _cursors_unchecked() -> Iterator[None]:
    with patch.object(loading, "trouble_in", lambda *args: None):
        yield


@contextmanager
def _lost_marks_unnoticed() -> Iterator[None]:
    """The marks of a loop are taken for whole, however few there are."""
    read = marks.read_marks

    def believing(fence: Any, slot: str, digests: Any, least: int) -> Any:
        return (yield from read(fence, slot, digests, 0))

    with patch.object(marking, "read_marks", believing):
        yield


VARIANTS = (
    Variant(
        "parser-swallows-errors",
        "a damaged line is refused",
        ENGINE,
        lambda: _with_load(_swallowing),
        Damage(10, 10, r"^log\[\d+\]$"),
        "lines were taken for",
    ),
    Variant(
        "lost-lines-unnoticed",
        "a lost checkpoint is never bought again",
        ENGINE,
        lambda: _with_load(_believing),
        Damage(1, 1, r"^log\[\d+\]$"),
        "called again",
    ),
    Variant("birth-marks-unchecked", "rule 9", ENGINE, _birth_unchecked, Damage(20, 20, r"@|^log\[0\]"), "birth mark"),
    Variant(
        "unknown-schema-accepted",
        "an older library refuses a newer run",
        ENGINE,
        _any_schema,
        Damage(120, 120, r"\.v$"),
        "schema 2 was taken",
    ),
    Variant(
        "meta-unchecked",
        "nothing but errors of our own",
        ENGINE,
        _meta_unchecked,
        Damage(40, 4, r"^meta"),
        "ValueError",
    ),
    Variant(
        "claim-before-look",
        "what is refused is not written to",
        ENGINE,
        _claims_first,
        Damage(40, 4, r"^meta"),
        "written to before",
    ),
    Variant(
        "cursors-unchecked",
        "nothing but errors of our own",
        ENGINE,
        _cursors_unchecked,
        Damage(40, 4, r"^meta\[cursor"),
        "ValueError",
    ),
    Variant(
        "lost-marks-unnoticed",
        "a loop whose marks are gone does not begin again",
        ENGINE,
        _lost_marks_unnoticed,
        Damage(4, 1, r"^marks$"),
        "what it had done is not known",
    ),
    Variant(
        "records-name-classes",
        "stored data is never run",
        ENGINE,
        _records_name_classes,
        Damage(160, 160, r"^log\[\d+\]\$$"),
        "Executed",
    ),
    Variant(
        "results-name-classes",
        "stored data is never run",
        ENGINE,
        _results_name_classes,
        Damage(80, 80, r"^results"),
        "Executed",
    ),
)
