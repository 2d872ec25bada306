"""The loopback provider, asked by the real OpenAI SDK over real HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from agentcheckpoint.testing.brain import Answer, Brain, Request, ToolCall, scripted
from agentcheckpoint.testing.payments import PRICES, Price, Tokens, read_payments
from agentcheckpoint.testing.provider import Provider

HI = [{"role": "user", "content": "hi there"}]
TOOLS = [{"type": "function", "function": {"name": "fetch", "parameters": {"type": "object", "properties": {}}}}]
CALLS = (ToolCall("fetch", {"url": "https://a.example", "n": 1}), ToolCall("fetch", {"url": "https://b.example"}))
LONG = "word and " * 2_000


class City(BaseModel):
    name: str
    people: int


PARIS = '{"name": "Paris", "people": 2}'


CLIENTS: list[OpenAI] = []


@pytest.fixture(autouse=True)
def no_client_stays_open() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def client(provider: Provider) -> OpenAI:
    CLIENTS.append(OpenAI(base_url=provider.url, api_key="test", max_retries=0))
    return CLIENTS[-1]


def chat(provider: Provider, **more: object):
    return client(provider).chat.completions.create(**{"model": "demo-large", "messages": HI, **more})


def respond(provider: Provider, **more: object):
    return client(provider).responses.create(**{"model": "demo-large", "input": "hi there", **more})


def test_the_default_brain_repeats_the_last_message_and_the_answer_bears_its_payment() -> None:
    with Provider() as p:
        raw = client(p).chat.completions.with_raw_response.create(
            model="demo-large", messages=HI, extra_headers={"X-Client-Request-Id": "mine-1"}
        )
        answer = raw.parse()
    assert answer.choices[0].message.content == "hi there"
    assert answer.choices[0].finish_reason == "stop"
    [payment] = p.journal
    assert raw.headers["x-request-id"] == payment.request_id == answer._request_id
    assert payment.client_request_id == "mine-1"
    assert payment.usage == answer.usage.model_dump(exclude_none=True)
    assert (payment.n, payment.endpoint, payment.model) == (1, "chat", "demo-large")
    assert payment.cost == p.spent == 2_500 * answer.usage.prompt_tokens + 10_000 * answer.usage.completion_tokens
    assert {"openai-version", "openai-processing-ms"} <= set(raw.headers) and raw.headers["content-type"] == (
        "application/json"
    )
    assert p.requests[0].headers["authorization"] == "Bearer test"


def test_equal_requests_have_equal_digests_and_minted_ids_differ() -> None:
    with Provider(lambda request: Answer(tool_calls=CALLS)) as p:
        first, second = chat(p, tools=TOOLS), chat(p, tools=TOOLS)
        chat(p)
    a, b, c = (payment.digest for payment in p.journal)
    assert a == b != c
    ids = [call.id for answer in (first, second) for call in answer.choices[0].message.tool_calls]
    assert len({*ids, first.id, second.id}) == 6


def test_parse_reads_a_json_answer_on_both_endpoints() -> None:
    with Provider(scripted(PARIS, PARIS)) as p:
        one = client(p).chat.completions.parse(model="demo-large", messages=HI, response_format=City)
        two = client(p).responses.parse(model="demo-large", input="hi", text_format=City)
    assert one.choices[0].message.parsed == two.output_parsed == City(name="Paris", people=2)


def test_a_chat_stream_carries_usage_only_when_asked() -> None:
    with Provider(lambda request: Answer(text="one  two\nthree ünï")) as p:
        plain = list(chat(p, stream=True))
        metered = list(chat(p, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain) == "one  two\nthree ünï"
    assert plain[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in plain)
    assert metered[-1].choices == [] and metered[-1].usage is not None
    assert metered[-1].usage.model_dump(exclude_none=True) == p.journal[1].usage == p.journal[0].usage


def test_parallel_tool_calls_come_whole_through_the_chat_stream() -> None:
    with (
        Provider(lambda request: Answer(tool_calls=CALLS)) as p,
        client(p).chat.completions.stream(model="demo-large", messages=HI, tools=TOOLS) as stream,
    ):
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    got = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert got == [(call.name, call.arguments) for call in CALLS]


def test_a_responses_stream_is_the_full_sequence_of_events_and_ends_in_what_is_stored() -> None:
    with Provider(lambda request: Answer(text="good day", tool_calls=CALLS[:1], reasoning_tokens=7)) as p:
        events = list(respond(p, stream=True))
        with client(p).responses.stream(model="demo-large", input="hi") as stream:
            final = stream.get_final_response()
        stored = client(p).responses.retrieve(final.id)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    item, delta = ["response.output_item.added", "response.output_item.done"], "response.function_call_arguments"
    part = ["response.content_part.added", *["response.output_text.delta"] * 2, "response.output_text.done"]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        *item,
        *[item[0], *part, "response.content_part.done", item[1]],
        *[item[0], *[f"{delta}.delta"] * 4, f"{delta}.done", item[1]],
        "response.completed",
    ]
    assert (final.output_text, final.status) == ("good day", "completed")
    assert [output.type for output in final.output] == ["reasoning", "message", "function_call"]
    assert json.loads(final.output[2].arguments) == CALLS[0].arguments
    assert final.usage.output_tokens_details.reasoning_tokens == 7 < final.usage.output_tokens
    assert final.model_dump(exclude={"output"}) == stored.model_dump(exclude={"output"})
    assert [item.id for item in final.output] == [item.id for item in stored.output]
    assert len(p.journal) == 2 and len(p.requests) == 2


def test_a_response_that_fails_or_stops_short_says_so_and_is_paid() -> None:
    brain = scripted(Answer(text="half", error="it broke"), Answer(text="half", finish_reason="length"))
    with Provider(brain) as p:
        failed = list(respond(p, stream=True))[-1]
        short = respond(p)
    assert failed.type == "response.failed" and failed.response.error.message == "it broke"
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert len(p.journal) == 2


def test_a_chat_answer_can_fail_in_its_body_though_its_status_is_200() -> None:
    with Provider(lambda request: Answer(text="half", error="it broke")) as p:
        assert chat(p).choices is None
        with pytest.raises(openai.APIError, match="it broke"):
            list(chat(p, stream=True))
    assert len(p.journal) == 2


def test_a_refusal_crosses_both_endpoints() -> None:
    with Provider(lambda request: Answer(refusal="I will not")) as p:
        message = chat(p).choices[0].message
        with client(p).responses.stream(model="demo-large", input="hi") as stream:
            output = stream.get_final_response().output
    assert (message.refusal, message.content) == ("I will not", None)
    assert output[0].content[0].refusal == "I will not"


def test_the_service_tier_is_the_brains_and_not_the_one_asked_for() -> None:
    with Provider(scripted(Answer(service_tier="flex"), Answer(service_tier="flex"), "plain")) as p:
        tiers = [chat(p).service_tier, respond(p, service_tier="auto").service_tier, respond(p).service_tier]
    assert tiers == ["flex", "flex", "default"]


def test_embeddings_are_the_same_in_both_formats_and_depend_on_the_input_alone() -> None:
    with Provider() as p:
        make = client(p).embeddings.create
        packed = make(model="demo-small", input=["a", "b"], dimensions=5)
        plain = make(model="demo-small", input=["b", "a"], dimensions=5, encoding_format="float")
    assert [e.embedding for e in packed.data] == [e.embedding for e in plain.data][::-1]
    assert packed.data[0].embedding != packed.data[1].embedding and len(packed.data[0].embedding) == 5
    assert b'"base64"' in p.requests[0].body
    assert p.journal[0].cost == 150 * packed.usage.prompt_tokens and p.journal[0].usage == packed.usage.model_dump()


def test_models_lists_the_price_table() -> None:
    with Provider() as p:
        assert [model.id for model in client(p).models.list()] == list(PRICES)


@pytest.mark.parametrize(
    ("answer", "error", "paid"),
    [
        (Answer(status=429, error="slow down", retry_after="7"), openai.RateLimitError, 0),
        (Answer(text="one two", cut_after=2), openai.APIConnectionError, 1),
        (Answer(drop="before"), openai.APIConnectionError, 0),
        (Answer(drop="after"), openai.APIConnectionError, 1),
    ],
)
async def test_the_async_client_meets_the_same_faults(answer: Answer, error: type[Exception], paid: int) -> None:
    with Provider(scripted(answer)) as p:
        async with AsyncOpenAI(base_url=p.url, api_key="test", max_retries=0) as ask:
            with pytest.raises(error):
                async for _ in await ask.responses.create(model="demo-large", input="hi", stream=True):
                    pass
    assert len(p.journal) == paid


async def test_the_async_client_gets_all_the_same() -> None:
    with Provider(lambda request: Answer(text=PARIS)) as p:
        async with AsyncOpenAI(base_url=p.url, api_key="test", max_retries=0) as ask:
            made, parsed, response, vectors = await asyncio.gather(
                ask.chat.completions.create(model="demo-large", messages=HI),
                ask.chat.completions.parse(model="demo-large", messages=HI, response_format=City),
                ask.responses.create(model="demo-large", input="hi"),
                ask.embeddings.create(model="demo-small", input="hi"),
            )
            stream = await ask.chat.completions.create(model="demo-large", messages=HI, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            async with ask.responses.stream(model="demo-large", input="hi") as events:
                final = await events.get_final_response()
    assert made.choices[0].message.content == text == response.output_text == final.output_text == PARIS
    assert parsed.choices[0].message.parsed == City(name="Paris", people=2)
    assert len(vectors.data[0].embedding) == 16
    assert len(p.journal) == 6


def test_brains_see_one_shape_of_messages_and_tools_from_both_endpoints() -> None:
    seen: list[Request] = []
    output = {"type": "function_call_output", "call_id": "c1", "output": "done"}
    call = {"type": "function_call", "call_id": "c1", "name": "fetch", "arguments": "{}"}
    parts = [{"type": "input_text", "text": "hi "}, {"type": "input_text", "text": "there"}]
    as_chat = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi there"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "fetch", "arguments": "{}"}}
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]  # fmt: skip

    def brain(request: Request) -> Answer:
        seen.append(request)
        return Answer(text="ok")

    with Provider(brain) as p:
        chat(p, messages=as_chat, tools=TOOLS)
        respond(
            p,
            instructions="be kind",
            input=[{"role": "user", "content": parts}, call, output],
            tools=[{"type": "function", **TOOLS[0]["function"]}],
        )
    assert seen[0].messages == seen[1].messages == as_chat
    assert seen[0].tools == seen[1].tools
    assert [request.n for request in seen] == [1, 2]


def test_a_response_can_continue_a_stored_one_but_not_an_unknown_one() -> None:
    seen: list[Request] = []

    def brain(request: Request) -> Answer:
        seen.append(request)
        return Answer(text="pong")

    with Provider(brain) as p:
        first = respond(p, input="ping", instructions="not carried over")
        respond(p, input="again", previous_response_id=first.id)
        unkept = respond(p, store=False)
        with pytest.raises(openai.NotFoundError):
            client(p).responses.retrieve(unkept.id)
        with pytest.raises(openai.BadRequestError) as refused:
            respond(p, previous_response_id="resp_none")
    assert [message["content"] for message in seen[1].messages] == ["ping", "pong", "again"]
    assert refused.value.code == "previous_response_not_found"
    assert len(p.journal) == 3


def test_a_background_response_is_paid_at_once_and_fetched_later_for_nothing() -> None:
    with Provider(scripted(Answer(text="at last", delay=60), Answer(text="at once"))) as p:
        slow, quick = respond(p, background=True), respond(p, background=True)
        assert (slow.status, slow.output, slow.usage) == ("queued", [], None)
        assert len(p.journal) == 2
        assert client(p).responses.retrieve(slow.id).status == "in_progress"
        assert client(p).responses.retrieve(quick.id).output_text == "at once"
    assert len(p.journal) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (Answer(status=429, error="slow down", retry_after="7"), openai.RateLimitError, "rate_limit_exceeded"),
        (Answer(status=429, error="no money", code="insufficient_quota"), openai.RateLimitError, "insufficient_quota"),
        (Answer(status=400, error="bad words"), openai.BadRequestError, None),
        (Answer(status=500, error="on fire"), openai.InternalServerError, None),
    ],
)
def test_an_error_has_openais_shape_and_is_not_billed(
    answer: Answer, error: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with Provider(scripted(answer)) as p, pytest.raises(error, match=answer.error) as raised:
        chat(p, stream=stream)
    assert raised.value.code == code
    assert raised.value.response.headers.get("retry-after") == answer.retry_after
    assert raised.value.request_id is not None
    assert p.journal == [] and p.spent == 0 and len(p.requests) == 1


def test_a_script_that_is_used_up_and_a_brain_that_raises_are_errors_500() -> None:
    def broken(request: Request) -> Answer:
        raise KeyError("no such fact")

    with Provider(scripted("only one")) as p:
        chat(p)
        with pytest.raises(openai.InternalServerError, match="the script has 1 answers; this is request 2"):
            chat(p)
    with Provider(broken) as q, pytest.raises(openai.InternalServerError, match="KeyError: 'no such fact'"):
        chat(q)
    assert (len(p.journal), len(q.journal)) == (1, 0)


def test_what_cannot_be_served_is_refused_before_the_brain_is_asked() -> None:
    def never(request: Request) -> Answer:
        raise AssertionError(request)

    with Provider(never) as p:
        ask = client(p)
        known = {"model": "demo-large"}
        for body in ({"messages": HI}, known, known | {"messages": "hi"}, known | {"messages": HI, "n": 2}, [1]):
            with pytest.raises(openai.BadRequestError):
                ask.post("/chat/completions", body=body, cast_to=object)
        with pytest.raises(openai.NotFoundError):
            ask.images.generate(prompt="a cat")
        with pytest.raises(openai.NotFoundError):
            ask.responses.retrieve("resp_none")
    assert p.journal == []
    assert len(p.requests) == 6


@pytest.mark.parametrize("cut_after", [0, 2, 5])
def test_a_cut_stream_breaks_after_so_many_events_and_is_paid(cut_after: int) -> None:
    got: list[object] = []
    with Provider(lambda request: Answer(text="one two three", cut_after=cut_after)) as p:
        with pytest.raises((openai.APIConnectionError, openai.APIError)):
            for chunk in chat(p, stream=True):
                got.append(chunk)
        assert len(got) == cut_after and len(p.journal) == 1
        events = respond(p, stream=True)
        with pytest.raises(openai.APIConnectionError):
            list(events)


def test_a_cleanly_cut_responses_stream_ends_without_an_error_and_can_be_fetched() -> None:
    with Provider(lambda request: Answer(text="one two three", cut_after=4, cut_clean=True)) as p:
        events = list(respond(p, stream=True))
        assert len(events) == 4
        with pytest.raises(RuntimeError), client(p).responses.stream(model="demo-large", input="hi") as stream:
            stream.get_final_response()
        assert client(p).responses.retrieve(events[0].response.id).output_text == "one two three"
    assert len(p.journal) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("drop", "paid"), [("before", 0), ("after", 1)])
def test_a_dropped_answer_is_paid_only_if_it_was_billed_before(drop: str, paid: int, stream: bool) -> None:
    with Provider(scripted(Answer(text="lost", drop=drop), "found")) as p:
        with pytest.raises(openai.APIConnectionError):
            chat(p, stream=stream)
        assert len(p.journal) == paid
        assert chat(p).choices[0].message.content == "found"
    assert len(p.journal) == paid + 1


def test_a_prompt_whose_beginning_was_met_before_is_cached_in_blocks_of_128() -> None:
    def cached(provider: Provider, model: str, *texts: str) -> int:
        messages = [{"role": "user", "content": text} for text in texts]
        usage = client(provider).chat.completions.create(model=model, messages=messages).usage
        return usage.prompt_tokens_details.cached_tokens

    with Provider() as p, Provider(cache_minimum=10**6) as never:
        assert cached(p, "demo-large", LONG, "first") == 0
        again = cached(p, "demo-large", LONG, "second")
        assert 1024 < again < len(LONG) // 4 + 20 and again % 128 == 0 and again > len(LONG) // 4 - 128
        assert cached(p, "demo-small", LONG, "first") == 0
        assert cached(p, "demo-large", "short", "first") == cached(p, "demo-large", "short", "first") == 0
        assert cached(p, "demo-large", "other", LONG) == 0
        assert cached(never, "demo-large", LONG) == cached(never, "demo-large", LONG) == 0
        usage = p.journal[1].usage
    fresh = usage["prompt_tokens"] - again
    assert p.journal[1].cost == 2_500 * fresh + 250 * again + 10_000 * usage["completion_tokens"]


def test_the_cost_is_whole_nano_dollars_by_the_given_table() -> None:
    assert Price(3, 1, 7).of(Tokens(input=100, output=10, cached=40, reasoning=9)) == 3 * 60 + 40 + 70
    with Provider(lambda request: Answer(text="x" * 40), prices={"mine": Price(3, 1, 7)}) as p:
        usage = chat(p, model="mine").usage
        other = chat(p, model="unheard-of").usage
    assert usage.completion_tokens == 10
    assert [payment.cost for payment in p.journal] == [
        3 * usage.prompt_tokens + 70,
        150 * other.prompt_tokens + 600 * 10,
    ]


def test_events_leave_one_by_one_and_closing_ends_what_is_still_waiting() -> None:
    before = set(threading.enumerate())
    with Provider(lambda request: Answer(text="one two", chunk_delay=600)) as p:
        assert next(iter(chat(p, stream=True))).choices[0].delta.role == "assistant"
    while set(threading.enumerate()) - before:
        time.sleep(0.001)


def test_the_payment_stands_in_the_journal_while_the_answer_is_still_delayed(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool, Provider(lambda r: Answer(delay=600), journal=tmp_path / "j") as p:
        call = pool.submit(chat, p)
        while not p.journal:
            time.sleep(0.001)
        assert not call.done()
        p.close()
        with pytest.raises(openai.APIConnectionError):
            call.result()
    assert read_payments(tmp_path / "j") == p.journal


def test_no_answer_leaves_before_its_payment_is_fsynced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with Provider(journal=tmp_path / "j") as p:
        chat(p)
        monkeypatch.setattr(os, "fsync", full_disk)
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError, match="No space left"):
                chat(p, stream=stream)


def test_parallel_answers_share_fsyncs_but_none_leaves_before_its_own_line_is_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fsync, covered = tmp_path / "j", os.fsync, [0]

    def watched(fd: int) -> None:
        size = os.fstat(fd).st_size
        fsync(fd)
        covered.append(size)

    def work(index: int) -> None:
        with client(p) as ask:
            for i in range(5):
                mine = ask.responses.create(model="demo-large", input=f"{index}.{i}")._request_id
                on_disk = max(covered)
                assert str(mine).encode() in path.read_bytes()[:on_disk]

    monkeypatch.setattr(os, "fsync", watched)
    with Provider(journal=path) as p, ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(p.journal) == 80


PROCESS = """
import sys, time
from pathlib import Path
from agentcheckpoint.testing.provider import Provider
provider = Provider(journal=Path(sys.argv[1]))
print(provider.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """The journal of a provider that was SIGKILLed after 20 parallel calls, and the ids of their answers."""
    path = tmp_path / "journal"
    process = subprocess.Popen([sys.executable, "-c", PROCESS, path], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        with OpenAI(base_url=url, api_key="test", max_retries=0) as ask, ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(ask.responses.create, model="demo-large", input=f"{i}") for i in range(20)]
            ids = [call.result()._request_id for call in calls]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    yield path, ids


def test_the_journal_of_a_killed_provider_has_every_answer_and_a_new_one_goes_on_with_it(
    killed: tuple[Path, list[str]],
) -> None:
    path, ids = killed
    payments = read_payments(path)
    assert {payment.request_id for payment in payments} == set(ids) and len(payments) == 20
    with Provider(journal=path) as p:
        assert p.journal == payments
        chat(p)
    assert [payment.n for payment in read_payments(path)] == list(range(1, 22))


def test_a_torn_last_line_is_no_payment_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Provider(journal=path) as p:
        chat(p)
    with path.open("ab") as file:
        file.write(b'{"n":2,"at":')
    assert len(read_payments(path)) == 1
    with Provider(journal=path) as p:
        chat(p)
    assert [payment.n for payment in read_payments(path)] == [1, 2]


def test_thirty_two_clients_at_once_are_counted_exactly(tmp_path: Path) -> None:
    def work(index: int) -> list[str]:
        with client(p) as ask:
            made = [ask.responses.create(model="demo-large", input=f"{index}.{i}") for i in range(5)]
        assert [answer.output_text for answer in made] == [f"{index}.{i}" for i in range(5)]
        return [str(answer._request_id) for answer in made]

    with Provider(journal=tmp_path / "journal") as p, ThreadPoolExecutor(32) as pool:
        ids = [one for many in pool.map(work, range(32)) for one in many]
    payments = read_payments(tmp_path / "journal")
    assert payments == p.journal and len(p.requests) == 160
    assert sorted(payment.request_id for payment in payments) == sorted(ids)
    assert [payment.n for payment in payments] == list(range(1, 161))
    assert [payment.at for payment in payments] == sorted(payment.at for payment in payments)
    assert p.spent == sum(payment.cost for payment in payments)


def test_a_request_that_is_shorter_than_announced_is_not_served_though_it_could_be_read() -> None:
    body = json.dumps({"model": "demo-large", "messages": HI}).encode()
    with Provider() as p, socket.create_connection(("127.0.0.1", int(p.url.split(":")[2][:-3]))) as one:
        one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body) + 1, body))
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
    assert p.journal == [] and p.requests == []


def test_clients_that_go_away_leave_no_trace_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    release = threading.Event()
    asked = threading.Semaphore(0)

    def brain(request: Request) -> Answer:
        asked.release()
        release.wait()
        return Answer(text=LONG * 20)

    with Provider(brain) as p:
        body = json.dumps({"model": "demo-large", "messages": HI, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for sent in (head + body, head + body[:9], head[:20], b"nonsense\r\n\r\n"):
            one = socket.create_connection(("127.0.0.1", int(p.url.split(":")[2][:-3])))
            # Linger 0: closing resets the connection, as a killed client's unread answer does.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.sendall(sent)
            if sent == head + body:
                asked.acquire()
            one.close()
        release.set()
        assert len(chat(p).choices) == 1
        while len(p.journal) < 2:
            time.sleep(0.001)
    assert len(p.requests) == len(p.journal) == 2
    assert capfd.readouterr().err == ""


def test_one_connection_serves_many_requests_and_is_closed_with_the_provider() -> None:
    brain: Brain = scripted("one", "two", Answer(status=429, error="no"), "four")
    with Provider(brain) as p:
        line = http.client.HTTPConnection(p.url.split("/")[2])
        line.connect()
        line.auto_open = 0  # it must not connect again
        for n in range(4):
            line.request("POST", "/v1/chat/completions", json.dumps({"model": "m", "messages": HI, "stream": n == 1}))
            assert line.getresponse().read()
    assert line.sock.recv(1) == b""
    line.close()
    assert len(p.journal) == 3


def test_the_provider_imports_neither_the_sdk_nor_redis() -> None:
    code = "import sys, agentcheckpoint.testing.provider; print({'openai', 'redis', 'httpx2'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
