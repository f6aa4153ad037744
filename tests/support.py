"""Helpers of the tests, without pytest in them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mainflux_events.testing import RedisServer

T = TypeVar("T")

REFERENCE = Path(__file__).parent / "reference"

# Seconds in which a machine that is busy with other things, too, has done anything.
PATIENCE = 30.0

_TICK = 0.005  # seconds

# For `redis_server(config=…)`: it takes 5 ms for each key that it loads, and saves when it is stopped.
LOADS_SLOWLY = {"save": "3600 1", "key-load-delay": 5_000, "rdbcompression": "no"}


async def wait_until(
    condition: Callable[[], object | Awaitable[object]], timeout: float = PATIENCE, *, what: str = ""
) -> None:
    """Return as soon as ``condition()``, or what it awaits to, is true; an ``AssertionError`` after ``timeout`` s.

    For what other tasks or processes bring about: never a sleep that hopes.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def in_background(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Work that goes on meanwhile, and is cancelled in the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Assert that what is awaited here takes no longer, but for what the machine kept this process waiting.

    A timer that comes late, and not because this process was at work, was late because others were. Nor does the
    garbage collector look at what hundreds of tests have left there.
    """
    gc.freeze()
    loop = asyncio.get_running_loop()
    took = 0.0
    last = time.monotonic(), time.process_time()

    def tick() -> None:
        nonlocal took, last, timer
        now = time.monotonic(), time.process_time()
        elapsed, worked = now[0] - last[0], now[1] - last[1]
        took += min(elapsed, _TICK + worked)
        last, timer = now, loop.call_later(_TICK, tick)

    timer = loop.call_later(_TICK, tick)
    try:
        yield
        tick()
    finally:
        timer.cancel()
        gc.unfreeze()
    assert took < seconds, f"it took {took:.3g} s"


def background_tasks() -> list[str]:
    """The names of this package's tasks that run."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("mainflux_events")]


async def restart_with_much_to_load(server: RedisServer) -> None:
    """Restart a server that `LOADS_SLOWLY`, and return when it refuses what it is asked: for another second."""
    # It looks at its clients after every two megabytes: a setting in later servers, but not in 6.2.
    await server.command("DEBUG", "POPULATE", 256, "key", 2**17)
    await server.stop()
    await server.restart(loaded=False)


def direct_to(server: RedisServer) -> Redis:
    """redis-py's client, which makes a new connection where that is needed."""
    return Redis.from_url(server.url, retry=Retry(NoBackoff(), 1))


def servers_below(directory: Path) -> list[str]:
    """The command lines of the processes that were started with a file of this directory."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(process.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in lines if str(directory) in line]


def nobody_listens() -> int:
    """A port of 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


async def no_clients_left(server: RedisServer, timeout: float = PATIENCE) -> None:
    """Wait until nobody but the asker is connected; an ``AssertionError`` that lists the others if they stay."""
    others: list[str] = []

    async def alone() -> bool:
        reply = await server.command("CLIENT", "LIST")
        others[:] = reply.decode().splitlines()[:-1]  # in the order of their coming: the asker is the last
        return not others

    try:
        await wait_until(alone, timeout)
    except AssertionError:
        # None of them may disturb the next test.
        await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        raise AssertionError("connections were left open:\n" + "\n".join(others)) from None
