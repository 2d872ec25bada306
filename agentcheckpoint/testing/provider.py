"""A provider on loopback: speaks OpenAI's HTTP, answers what a brain decides, and journals what it was paid for."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from agentcheckpoint.testing.brain import Answer, Brain, echo, scripted
from agentcheckpoint.testing.desk import Desk, Received
from agentcheckpoint.testing.payments import PRICES, Journal, Payment, Price
from agentcheckpoint.testing.serving import Exchange, Server


class Provider:
    """A real HTTP server on an ephemeral port of 127.0.0.1, serving from its construction until it is closed.

    Each payment is written and fsynced to the journal before the first byte of its answer leaves; answers with an
    error's status are not billed.

    Args:
        brain: what decides the answers; the default repeats the last message.
        journal: a file for the payments, appended to; ``read_payments`` reads it. ``None`` keeps them in memory.
        prices: nano-dollars per token for each model; others cost ``DEFAULT_PRICE``.
        cache_minimum: tokens of a known prompt prefix from which on it counts as cached.
        refuses: fields of a request's body that this server does not take, such as ``stream_options``: it answers 400.
    """

    def __init__(
        self,
        brain: Brain | None = None,
        *,
        journal: Path | None = None,
        prices: Mapping[str, Price] = PRICES,
        cache_minimum: int = 1024,
        refuses: Collection[str] = (),
    ) -> None:
        self._journal = Journal(journal)
        self._desk = Desk(brain or echo, self._journal, prices, cache_minimum, refuses)
        self._server = Server(("127.0.0.1", 0), partial(Exchange, self._desk))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        """What an OpenAI client takes as ``base_url``."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and close all connections. What was received and paid stays readable."""
        self._desk.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.hang_up()
        self._journal.close()

    def script(self, *answers: Answer | str) -> None:
        """From now on it gives these answers in turn, in the order in which requests come; then errors of status 500.

        Args:
            answers: a text, or an ``Answer``, as ``testing.reply``, ``tool_call``, ``error`` and ``cut_stream`` make.
        """
        self._desk.brain = scripted(*answers)

    @property
    def journal(self) -> list[Payment]:
        """All payments, oldest first, those that the journal's file held before included."""
        return self._journal.payments

    @property
    def spent(self) -> int:
        """The sum of all payments, in nano-dollars."""
        return sum(payment.cost for payment in self._journal.payments)

    @property
    def requests(self) -> list[Received]:
        """All POSTs that have come in whole, in that order."""
        return self._desk.requests

    @property
    def looks(self) -> list[str]:
        """The path and query of each GET, in the order in which they came. None of them is billed."""
        return self._desk.looks

    def expire_streams(self) -> None:
        """From now on kept responses cannot be streamed again, as the real provider's after some minutes."""
        self._desk.shelf.streams = False

    def forget(self, response_id: str) -> None:
        """Forgets a kept response, as the real provider does after some weeks. It stays paid."""
        self._desk.shelf.delete(response_id)
