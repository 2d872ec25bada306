"""Amounts of dollars that people name: exact, or refused with what to write."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentcheckpoint.core.amounts import dollars
from agentcheckpoint.core.models import MOST


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("0.05", 50_000_000),
        ("0.000000001", 1),
        ("1e-9", 1),
        ("0.0500000000000000", 50_000_000),
        (2, 2_000_000_000),
        (0, 0),
        ("-0", 0),
        (" 12.5 ", 12_500_000_000),
        (Decimal("0.1"), 100_000_000),
        ("9007199.254740992", MOST),
    ],
)
def test_an_amount_is_read_to_the_nano_dollar(amount: int | str | Decimal, nano: int) -> None:
    assert dollars(amount) == nano


@example(MOST, 1)  # the limit itself must not be rounded
@given(st.integers(min_value=0, max_value=MOST), st.integers(min_value=1, max_value=12))
def test_every_whole_number_of_nano_dollars_comes_back_whatever_the_callers_decimal_context(
    nano: int, precision: int
) -> None:
    written = f"{nano // 10**9}.{nano % 10**9:09d}"
    with localcontext() as ambient:
        ambient.prec = precision
        assert dollars(written) == dollars(Decimal(written)) == nano


@pytest.mark.parametrize("amount", [0.05, 1.0, True, None, [1], b"1"])
def test_a_float_or_no_number_is_refused_with_what_to_write(amount: object) -> None:
    with pytest.raises(TypeError, match=r"Step\(cost=\.\.\.\): .* as a string, such as \"2\.50\""):
        dollars(amount, "Step(cost=...)")  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["", "cheap", "$0.05", "0,05", "NaN", "Infinity", "-0.05", -1, Decimal("sNaN")])
def test_what_is_no_amount_is_refused(amount: int | str | Decimal) -> None:
    with pytest.raises(ValueError, match="not an amount of dollars"):
        dollars(amount)


@pytest.mark.parametrize("amount", ["0.0000000001", "1.0000000005", "1e-999999", "0." + "3" * 200])
def test_nothing_is_rounded_so_what_is_finer_than_a_nano_dollar_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="finer than a nano-dollar"):
        dollars(amount)


@pytest.mark.parametrize("amount", ["9007199.254740993", 10**30, "1e999999"])
def test_more_than_there_is_is_refused(amount: int | str) -> None:
    with pytest.raises(ValueError, match="beyond all sense"):
        dollars(amount)
