"""The options of `demo`, the server that it runs on, and what is left when it is over: nothing."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console

from ... import ConfigError
from ...testing import ServerNotFound, redis_server
from ..running import run as run_to_end
from .run import Run
from .view import View, make_console, report

# Seconds that a given server may take to answer, and to remove what was written there.
PATIENCE = 5.0


def demo(
    redis_url: Annotated[
        str,
        typer.Option(
            metavar="URL", help="A server that is there; without, one of the demo's own is started."
        ),
    ] = "",
    events: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many events are published.")
    ] = 50_000,
    rate: Annotated[
        int, typer.Option(min=0, help="How many a second, so that there is something to see; 0: no limit.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same events.")] = 1,
) -> int:
    """Publish and consume tens of thousands of events, and count them.

    One task publishes made-up events of all ten operations of the platform. Two named subscribers consume them in
    others, and one of these is stopped and replaced on the way. On a given server all of it happens in a stream named
    mainflux.demo and a random suffix, which is removed afterwards, with the subscribers' cursors.

    Exit status: 0 if both subscribers have handled every event, 1 if not, or if the server cannot be used, 2 for
    wrong usage, 130 if interrupted.

    \b
    Examples:
      mainflux-events demo
      mainflux-events demo --events 200000 --rate 0
      mainflux-events demo --redis-url redis://localhost:6379/0
    """
    return run_to_end(_demo(redis_url, events, rate, seed))


async def _demo(url: str, events: int, rate: int, seed: int) -> int:
    console = make_console()
    async with contextlib.AsyncExitStack() as stack:
        url = url or await _own_server(stack, console)
        stream = f"mainflux.demo.{secrets.token_hex(6)}"
        try:
            run = Run(url, stream, events=events, rate=rate, seed=seed)
        except ConfigError as error:
            raise typer.BadParameter(str(error), param_hint="--redis-url") from None
        client = await stack.enter_async_context(_client(url, run.keys))
        pace = f"{rate:,} a second" if rate else "as fast as it goes"
        console.print(f"publishing {events:,} events to {stream}, {pace}", soft_wrap=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(View(run, client, console).follow)
            await run()
            tasks.cancel_scope.cancel()
    console.print()
    console.print(report(run), soft_wrap=True)
    return 0 if run.agrees else 1


async def _own_server(stack: contextlib.AsyncExitStack, console: Console) -> str:
    try:
        server = await stack.enter_async_context(redis_server())
    except ServerNotFound as error:
        raise ServerNotFound(f"{error}; or give a server that is there, by --redis-url") from None
    console.print(f"started {server.binary}, version {'.'.join(map(str, server.version))}", soft_wrap=True)
    return server.url


@contextlib.asynccontextmanager
async def _client(url: str, keys: list[str]) -> AsyncIterator[Redis]:
    """A client of a server that answers. At the end, the keys are removed."""
    async with Redis.from_url(
        url, protocol=2, decode_responses=True, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
    ) as client:
        await client.ping()
        try:
            yield client
        finally:
            with anyio.move_on_after(PATIENCE, shield=True), contextlib.suppress(RedisError):
                await client.delete(*keys)
