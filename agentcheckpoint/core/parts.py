"""What the entries of a log are made of.

They are held for each step of a long run: classes with slots, where a model of pydantic's would be three objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from agentcheckpoint.core.bought import Natural, Record

T = TypeVar("T")
_CONFIG = ConfigDict(extra="ignore", strict=True)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def stored(kind: type[T]) -> type[T]:
    """Makes a class a frozen record as ``Record`` is one: its fields are checked, unknown ones left out."""
    return cast(type[T], checked_dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)(kind))


class Argument(NamedTuple):
    """One input of a step: its digest, and a short preview for people. No digest: it was not compared. It is stored as
    an array: the names would take more room than what they name.
    """

    name: str
    digest: str
    preview: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a step was called with, as digests: the whole, and each argument."""

    digest: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Describes the bytes kept beside a record: their size, and the chain of codecs that wrote them."""

    size: Natural
    codec: str = "json"


class Failure(Record):
    """An exception, as text: never revived."""

    type: str
    message: str
    trace: str = ""
