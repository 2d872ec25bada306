"""What notebooks ask of a value that can be shown: as HTML and as text, and its records as a data frame."""

from __future__ import annotations

import importlib
from typing import Any

from agentcheckpoint.errors import NotInstalled


class Shown:
    """A value that has ``__str__`` and ``_repr_html_``: a notebook shows one of them, a terminal or log the other."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        raise TypeError(f"{type(self).__name__} has no HTML")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


class Records:
    """A value that has records."""

    __slots__ = ()

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each row."""
        raise TypeError(f"{type(self).__name__} has no records")

    def to_pandas(self) -> Any:
        """The records as a pandas ``DataFrame``; dollars are exact decimals.

        Raises:
            NotInstalled: pandas is not installed.
        """
        return _library("pandas").DataFrame.from_records(self.to_records())

    def to_polars(self) -> Any:
        """The records as a polars ``DataFrame``; dollars are exact decimals.

        Raises:
            NotInstalled: polars is not installed.
        """
        return _library("polars").DataFrame(self.to_records(), infer_schema_length=None)


def _library(name: str) -> Any:
    """A library that may not be installed."""
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise NotInstalled(f"to_{name}() needs {name}: pip install {name}. to_records() needs nothing.") from exc
