"""Records as lines of CSV and JSON, for programs and spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvRows:
    """CSV with a line of titles. A text that a spreadsheet would take for a formula is marked as text by a '.

    Args:
        file: where to, opened with ``newline=""``.
        titles: the names of the columns.
    """

    def __init__(self, file: TextIO, titles: Iterable[str]) -> None:
        self._lines = csv.DictWriter(file, list(titles))
        self._lines.writeheader()

    def write(self, record: Mapping[str, Any]) -> None:
        """One more line."""
        self._lines.writerow({name: _cell(value) for name, value in record.items()})


class JsonRows:
    """Lines of JSON; decimals are strings, which lose no digit."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, record: Mapping[str, Any]) -> None:
        """One more line."""
        self._file.write(json_text(record) + "\n")


def json_text(data: object, indent: int | None = None) -> str:
    """JSON, in which decimals are strings."""
    return json.dumps(data, ensure_ascii=False, indent=indent, default=_text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else _text(value)


def _text(value: object) -> str:
    """A decimal is written out, never with an exponent."""
    return f"{value:f}" if hasattr(value, "as_tuple") else str(value)
