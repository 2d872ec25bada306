"""Amounts of money as people write them: exact, and never a float."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from typing import TypeAlias

Dollars: TypeAlias = int | str | Decimal
"""US dollars: ``"0.05"``, ``Decimal("0.05")``, or whole ones as an int."""

NANO_PER_DOLLAR = 10**9
MOST_NANO = 2**63
"""An amount beyond it, nine billion dollars, is a mistake."""

_DIGITS = 80
_LOSSLESS = Context(prec=_DIGITS, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
EXACT = Context(prec=_DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
"""For sums of tokens times price: the caller's decimal context may have any precision."""


def dollars(amount: Dollars, what: str = "the amount") -> int:
    """Read an amount of dollars that somebody names, such as the price of a paid tool's call.

    Args:
        amount: dollars, such as ``"0.05"``; an int is whole dollars.
        what: what the amount is, for the error's message, such as ``"Step(cost=...)"``.

    Returns:
        Whole nano-dollars. Nothing is rounded.

    Raises:
        TypeError: a float, which is not the number you wrote, or no number at all.
        ValueError: not a number, not finite, negative, finer than a nano-dollar, or beyond all sense.
    """
    value = exact_dollars(amount, what)
    if value >= Decimal(MOST_NANO) / NANO_PER_DOLLAR:
        raise ValueError(f"{what}: {amount!r} dollars is beyond all sense")
    try:
        with localcontext(_LOSSLESS):
            nano = value * NANO_PER_DOLLAR
            if nano == int(nano):
                return int(nano)
    except Inexact:
        pass
    raise ValueError(f"{what}: {amount!r} is finer than a nano-dollar, the smallest amount that is kept; round it")


def exact_dollars(amount: object, what: str) -> Decimal:
    """The amount as a decimal of any fineness. Raises as ``dollars`` does."""
    if isinstance(amount, bool) or not isinstance(amount, int | str | Decimal):
        raise TypeError(
            f"{what}: {amount!r} is a {type(amount).__name__}; write dollars as a string, such as "
            '"2.50", as an int or as a Decimal. A float is not the number that you wrote'
        )
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise ValueError(f'{what}: {amount!r} is not an amount of dollars; write it as a string, such as "2.50"')
    return value
