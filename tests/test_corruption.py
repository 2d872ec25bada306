"""Each stored field of a run, damaged 50 times (200 in a full search): only our errors, nothing run, lost or bought."""

from __future__ import annotations

import warnings

import pytest
from faults import corruption, golden, mutations
from faults.fields import Field, fields_of
from faults.stored import contents
from servers import embedded_url

from agentcheckpoint.core.models import SCHEMA
from agentcheckpoint.errors import DurabilityWarning

__all__ = ["embedded_url"]

PER_FIELD = 50


@pytest.mark.timeout(900)
def test_every_stored_field_is_damaged_fifty_times() -> None:
    kept, _ = golden.load(golden.path_of(SCHEMA))
    tally = corruption.search(PER_FIELD, seed=1)
    assert not tally.violations, "\n".join(map(str, tally.violations[:20]))
    fields = len(fields_of(kept))
    assert fields > 500
    assert tally.notes["fields"] == tally.notes["whole"] == fields
    assert tally.notes["mutations"] == fields * PER_FIELD
    assert tally.fired == tally.scenarios > 0.95 * fields * PER_FIELD, "most mutations must really change something"
    # Each way to end is met: the search tells refusals from replays and from what cannot be told.
    for way in ("fast: refused", "fast: read as before", "fast: another true story"):
        assert tally.notes[way] > 250, way
    for way in ("whole: refused", "whole: replayed", "whole: not shown", "whole: deleted"):
        assert tally.notes[way] > 50, way


def test_the_same_on_the_embedded_server(embedded_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DurabilityWarning)
        tally = corruption.search(1, seed=2, only=r"7|^[a-z]+$|^meta", url=embedded_url)
    assert not tally.violations, "\n".join(map(str, tally.violations[:20]))
    assert tally.notes["whole"] == tally.notes["fields"] > 50
    left = contents(embedded_url, corruption.rich.RUN)
    assert all(name.endswith((b":tomb", b":log", b":results", b":meta", b":head")) for name in left)


def test_every_kind_of_entry_and_each_key_is_among_the_fields() -> None:
    kept, _ = golden.load(golden.path_of(SCHEMA))
    fields = {str(field) for field in fields_of(kept)}
    assert {"head", "tokens", "log", "results", "meta", "waste", "lease"} <= fields
    assert {"log[0]$.run", "log[0]$", "meta[@]", "results[@]", "lease$.pid", "tokens[0]", "meta[attempt]"} <= fields
    assert any(name.endswith(".entries[0].usage.input_tokens") for name in fields)


@pytest.mark.parametrize(
    "place", [Field(b"ac:{t}:1.a:log", 0, ("a", 1)), Field(b"ac:{t}:1.a:log", 0), Field(b"x:head")]
)
def test_damage_is_seeded_endless_and_touches_nothing_else(place: Field) -> None:
    sound = {b"ac:{t}:1.a:log": [b'{"a":[1,{"b":2}]}', b"{}"], b"x:head": b"1.a"}

    def some(seed: str) -> list[object]:
        return [made for made, _ in zip(place.damaged(sound, seed), range(300), strict=False)]

    assert len(some("1")) == 300 and some("1") == some("1") != some("2")
    for damaged in place.damaged(sound, "1"):
        assert {name: value for name, value in damaged.items() if name != place.key} == {
            name: value for name, value in sound.items() if name != place.key
        }
        break


def test_the_fragments_hold_what_parsers_fear() -> None:
    texts = "".join(mutations.FRAGMENTS)
    for feared in ("NaN", "[[[[", "\\ud800", "9" * 5000, mutations.MARK, "__class__", '"a":1,"a":2'):
        assert feared in texts
