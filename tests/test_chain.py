"""How result bytes are stored: packed where that saves room, through the codecs, and back."""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_runs import fresh, logged

import agentcheckpoint as ac
from agentcheckpoint.core.chain import WORTH, Chain, Where
from agentcheckpoint.core.codec import MAX_BYTES
from agentcheckpoint.core.models import Closed, Done, Payload
from agentcheckpoint.errors import CheckpointCorrupt


@dataclasses.dataclass(frozen=True)
class Sealed:
    """Appends its name and the place; refuses what was sealed for another."""

    name: str

    def seal(self, where: Where) -> bytes:
        return f"|{self.name}@{where.slot}".encode()

    def encode(self, data: bytes, where: Where) -> bytes:
        return data + self.seal(where)

    def decode(self, data: bytes, where: Where) -> bytes:
        if not data.endswith(self.seal(where)):
            raise ValueError("broken seal")
        return data.removesuffix(self.seal(where))


HERE = Where("default", "r1", "plan", "id1")
WORDS = ("model", "answer", "tool", "result", "because", "therefore", "the", "of", "and", "search", "page", "found")


def prose(size: int) -> bytes:
    """JSON of so many bytes whose words come again, as they do in what a model says."""
    chosen = random.Random(size)
    text = ""
    while len(text) < size:
        text += f"{chosen.choice(WORDS)} "
    return json.dumps(text[: size - 2]).encode()


def test_a_small_result_is_stored_as_it_is() -> None:
    data = prose(WORTH - 1)
    assert Chain().encode(data, HERE) == (data, Payload(size=len(data)))


def test_a_larger_one_is_packed_and_its_record_says_so() -> None:
    data = prose(4 * WORTH)
    stored, payload = Chain().encode(data, HERE)
    assert len(stored) < len(data) / 2
    assert payload == Payload(size=len(stored), codec="json+zlib")
    assert Chain().decode(stored, payload, HERE) == data


def test_what_would_not_become_smaller_is_not_packed() -> None:
    data = secrets.token_bytes(4 * WORTH)
    assert Chain().encode(data, HERE) == (data, Payload(size=len(data)))


@given(st.binary(max_size=50), st.integers(0, 200))
def test_whatever_is_stored_comes_back(piece: bytes, times: int) -> None:
    chain = Chain((Sealed("one"),))
    assert chain.decode(*chain.encode(piece * times, HERE), HERE) == piece * times


def test_a_large_result_that_was_stored_plain_is_still_read() -> None:
    data = prose(4 * WORTH)
    assert Chain().decode(data, Payload(size=len(data)), HERE) == data


def test_codecs_encode_in_order_and_decode_backwards() -> None:
    chain = Chain((Sealed("one"), Sealed("two")))
    stored, payload = chain.encode(b"data", HERE)
    assert (stored, payload.codec) == (b"data|one@plan|two@plan", "json+one+two")
    assert chain.decode(stored, payload, HERE) == b"data"


def test_what_a_codec_gets_is_packed_already() -> None:
    stored, payload = Chain((Sealed("one"),)).encode(prose(4 * WORTH), HERE)
    assert payload.codec == "json+zlib+one"
    assert zlib.decompress(stored.removesuffix(b"|one@plan")) == prose(4 * WORTH)


def test_a_record_whose_codec_is_not_configured_names_it() -> None:
    with pytest.raises(CheckpointCorrupt, match=r"run 'r1', step 'plan'.*'json\+one\+two'.*missing here: 'two'") as e:
        Chain((Sealed("one"),)).decode(b"", Payload(size=0, codec="json+one+two"), HERE)
    assert (e.value.run_id, e.value.step) == ("r1", "plan")


@pytest.mark.parametrize("written", ["json", "json+zlib", "json+two+one", "json+one+two+zlib", "zlib", ""])
def test_a_record_cannot_choose_its_decoding(written: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"written as '.*', and 'json\+one\+two' is configured"):
        Chain((Sealed("one"), Sealed("two"))).decode(b"data", Payload(size=4, codec=written), HERE)


def test_bytes_moved_to_another_step_are_refused_by_a_codec_that_binds_them() -> None:
    chain = Chain((Sealed("one"),))
    stored, payload = chain.encode(b"data", HERE)
    with pytest.raises(CheckpointCorrupt, match=r"step 'other'.*broken seal"):
        chain.decode(stored, payload, dataclasses.replace(HERE, slot="other"))


def test_bytes_that_are_not_as_many_as_recorded_are_refused() -> None:
    with pytest.raises(CheckpointCorrupt, match=r"step 'plan': 4 bytes are stored as its result, and 5 were"):
        Chain().decode(b"data", Payload(size=5), HERE)


def test_each_damaged_bit_of_a_packed_result_is_noticed_or_means_the_same() -> None:
    data = prose(WORTH)
    stored, payload = Chain().encode(data, HERE)
    refused = 0
    for bit in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert Chain().decode(bytes(damaged), payload, HERE) == data
        except CheckpointCorrupt:
            refused += 1
    assert refused > 8 * len(stored) - 16  # what is after the last block's end, to the next whole byte, says nothing


@pytest.mark.parametrize("spoil", [lambda stored: stored[:-1], lambda stored: stored + b"x", lambda _: b"[1]"])
def test_a_packed_result_that_is_not_whole_is_refused(spoil: object) -> None:
    assert callable(spoil)
    damaged = spoil(Chain().encode(prose(4 * WORTH), HERE)[0])
    with pytest.raises(CheckpointCorrupt, match="cannot be decoded"):
        Chain().decode(damaged, Payload(size=len(damaged), codec="json+zlib"), HERE)


def test_a_packed_result_that_would_fill_the_memory_is_refused_before_it_does() -> None:
    bomb = zlib.compress(bytes(8 * MAX_BYTES))
    tracemalloc.start()
    with pytest.raises(CheckpointCorrupt, match="more than 33,554,432 bytes"):
        Chain().decode(bomb, Payload(size=len(bomb), codec="json+zlib"), HERE)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 3 * MAX_BYTES


def test_a_run_keeps_its_large_results_packed_and_gives_them_back() -> None:
    text, read, url = prose(20_000).decode(), list[str](), fresh()

    def read_page() -> str:
        read.append("page")
        return text

    for _ in range(2):
        with ac.run("r", store=url) as run:
            assert run.step("page", read_page) == text
            run.finish(text)
    assert read == ["page"]
    done, closed = logged(url, "r", Done)[0], logged(url, "r", Closed)[0]
    assert closed.output is not None
    assert (done.payload.codec, closed.output.codec) == ("json+zlib", "json+zlib")
    assert done.payload.size < len(text) / 2


def test_an_export_has_large_results_in_clear_and_an_import_packs_them_again(tmp_path: Path) -> None:
    text, there, here, file = prose(20_000).decode(), fresh(), fresh(), tmp_path / "run.jsonl"
    with ac.run("r", store=there) as run:
        run.step("page", lambda: text)
    ac.export_run("r", file, store=there)
    assert text[1:-1] in file.read_text()
    ac.import_run(file, store=here)
    payload = logged(here, "r", Done)[0].payload
    assert payload == logged(there, "r", Done)[0].payload and payload.codec == "json+zlib"
    with ac.run("r", store=here) as run:
        assert run.step("page", lambda: "read again") == text
