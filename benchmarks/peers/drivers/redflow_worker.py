"""redflow: a worker of its own beside the client, on one loop, while a question is answered."""

import asyncio
import itertools
import sys
import time
from contextlib import asynccontextmanager

from driver import result, serve
from redflow import StartWorkerOptions, create_client, define_workflow, set_default_client, start_worker
from redflow.types import WorkflowRetryPolicy


class Interrupted(Exception):
    pass


async def make() -> str:
    return result()


class Redflow:
    def __init__(self, url):
        self.url = url
        self.numbers = itertools.count()
        self.taken = None
        again = WorkflowRetryPolicy(max_attempts=1000, delay=lambda _: 1)
        self.work = define_workflow("work", handler=self._work)
        self.long = define_workflow("long", handler=self._long, retries=again)

    def commit(self, steps):
        return asyncio.run(self._commit(steps))

    def fill(self, steps):
        asyncio.run(self._fill(steps))

    def resume(self, steps):
        return asyncio.run(self._arrival())

    async def _commit(self, steps):
        async with self._worker():
            handle = await self.work.run({"steps": steps})
            return await handle.result(timeout_ms=60_000)

    async def _fill(self, steps):
        async with self._worker():
            await self.long.run({"steps": steps})
            await self._arrived()

    async def _arrival(self):
        async with self._worker():
            return await self._arrived()

    async def _arrived(self):
        self.taken = asyncio.get_running_loop().create_future()
        return await self.taken

    @asynccontextmanager
    async def _worker(self):
        client = create_client(app="peer", url=self.url)
        set_default_client(client)
        worker = await start_worker(StartWorkerOptions(app="peer", url=self.url))
        try:
            yield
        finally:
            await worker.stop()

    async def _work(self, ctx):
        return await self._steps(ctx) / ctx.input["steps"]

    async def _long(self, ctx):
        taken = await self._steps(ctx)
        if not self.taken.done():
            self.taken.set_result(taken)
        raise Interrupted

    async def _steps(self, ctx):
        began = time.perf_counter()
        for n in range(ctx.input["steps"]):
            await ctx.step.run(f"step-{n}", make)
        return time.perf_counter() - began


serve(Redflow(sys.argv[1]), "redflow", "redis", "hiredis")
