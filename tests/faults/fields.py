"""Every stored field of a run: where it is, what it is called, and its damaged forms."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import mutations
from .stored import Contents, Odd, Value

_SEEN = {"SET": "string", "RPUSH": "list", "HSET": "hash"}


@dataclass(frozen=True, slots=True)
class Field:
    """One stored field.

    Attributes:
        key: the full name of its key.
        item: which element of a list, or field of a hash; ``None``: the key itself, its existence and type.
        path: where in the JSON that stands there; ``None``: the bytes as a whole.
    """

    key: bytes
    item: int | bytes | None = None
    path: mutations.Path | None = None

    @property
    def name(self) -> str:
        """Its key without what differs from run to run: ``log``, ``meta``, ``head``."""
        return _name_of(self.key)

    def __str__(self) -> str:
        item = (
            "" if self.item in (None, b"") else f"[{self.item.decode() if isinstance(self.item, bytes) else self.item}]"
        )
        return f"{self.name}{item}{'' if self.path is None else _written(self.path)}"

    def damaged(self, contents: Contents, seed: str) -> Iterator[Contents]:
        """The run with this field damaged, again and again."""
        for value in self._forms(contents[self.key], f"{seed}:{self}"):
            yield {name: old for name, old in contents.items() if name != self.key} | (
                {} if value is None else {self.key: value}
            )

    def _forms(self, value: Value, seed: str) -> Iterator[Value | None]:
        if isinstance(value, bytes):
            yield from self._of(value, seed) if self.item is not None or self.path is not None else _typed(seed)
        elif self.item is None:
            yield from _typed(seed)
        elif isinstance(value, list):
            assert isinstance(self.item, int)
            for form in self._of(value[self.item], seed):
                yield [*value[: self.item], *([] if form is None else [form]), *value[self.item + 1 :]]
        elif isinstance(value, dict):
            assert isinstance(self.item, bytes)
            for form in self._of(value[self.item], seed):
                yield {name: old for name, old in value.items() if name != self.item} | (
                    {} if form is None else {self.item: form}
                )

    def _of(self, data: bytes, seed: str) -> Iterator[bytes | None]:
        if self.path is None:
            return mutations.of_bytes(data, seed)
        return mutations.of_json(json.loads(data), self.path, seed)


def _name_of(key: bytes) -> str:
    return "marks" if b":marks:" in key else key.rpartition(b":")[2].decode()


def _typed(seed: str) -> Iterator[Value | None]:
    for made in mutations.of_type(seed):
        if made is None:
            yield None
        else:
            word, args = made
            kind = _SEEN.get(word)
            yield (
                args[0]
                if kind == "string"
                else list(args)
                if kind == "list"
                else ({args[0]: args[1]} if kind == "hash" else Odd(word, args))
            )


def fields_of(contents: Contents) -> list[Field]:
    """All of them: each key, each element of a list and field of a hash, and each place in their JSON."""
    return list(itertools.chain.from_iterable(_of_key(key, value) for key, value in sorted(contents.items())))


def _of_key(key: bytes, value: Value) -> Iterator[Field]:
    yield Field(key)
    if isinstance(value, bytes):
        yield from _of_value(key, b"", value)
    elif isinstance(value, list):
        for index, data in enumerate(value):
            yield from _of_value(key, index, data)
    elif isinstance(value, dict):
        for name, data in value.items():
            yield from _of_value(key, name, data)


def _of_value(key: bytes, item: int | bytes, data: bytes) -> Iterator[Field]:
    yield Field(key, item)
    if data.startswith(b"{") and not key.endswith(b":results"):
        yield from (Field(key, item, path) for path in mutations.paths_of(json.loads(data)))


def _written(path: mutations.Path) -> str:
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def shapes_of(contents: Contents) -> list[str]:
    """What is stored, without what differs from run to run: ``log done.entries[].cost: int``."""
    return sorted({shape for key, value in contents.items() for shape in _shapes(key, value)})


def _shapes(key: bytes, value: Value) -> Iterator[str]:
    name = _name_of(key)
    if isinstance(value, list) and name == "log":
        for document in map(json.loads, value):
            yield from (f"log {document['k']}{shape}" for shape in _inside(document))
    elif isinstance(value, dict):
        for field, data in value.items():
            if field.startswith(b"cursor:"):
                yield from (f"{name} {field.decode()}{shape}" for shape in _inside(json.loads(data)))
            elif name == "meta" or field == b"@":
                yield f"{name} {field.decode()}"
            elif name == "waste":
                yield from (f"waste {shape}" for shape in _inside(json.loads(data)))
            else:
                yield f"{name} <id>"
    elif name == "lease":
        assert isinstance(value, bytes)
        yield from (f"lease {shape}" for shape in _inside(json.loads(value)))
    else:
        yield f"{name}: {type(value).__name__}"


def _inside(document: Any) -> Iterator[str]:
    for path in mutations.paths_of(document):
        node = document
        for part in path:
            node = node[part]
        if not isinstance(node, dict | list):
            shown = "".join("[]" if isinstance(part, int) else f".{part}" for part in path)
            yield f"{shown}: {type(node).__name__}"
