"""Whether an answer fits the JSON schema that is stored with its question."""

from __future__ import annotations

import json
from typing import Any

MOST_TROUBLES = 5
"""How many troubles of an answer are told."""


def misfits(form: str, answer: object) -> list[str]:
    """What is wrong with an answer, the first few troubles, each with its path.

    Args:
        form: the JSON schema, as JSON. What it refers to elsewhere is not fetched.
        answer: from its JSON.
    """
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    checks: Any = Draft202012Validator.FORMAT_CHECKER
    validator: Any = Draft202012Validator(json.loads(form), registry=Registry(), format_checker=checks)
    try:
        found = sorted(validator.iter_errors(answer), key=lambda error: list(map(str, error.absolute_path)))
    except Unresolvable as exc:
        return [f"its form cannot be read: {exc}"]
    return [f"{error.json_path}: {error.message[:200]}" for error in found[:MOST_TROUBLES]]
