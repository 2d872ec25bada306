"""A function that counts how often it was called."""

from __future__ import annotations


class Counted:
    """A function that counts how often it was called."""

    def __init__(self, result: object = 1) -> None:
        self.calls = 0
        self.result = result

    def __call__(self) -> object:
        self.calls += 1
        return self.result
