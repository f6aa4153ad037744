"""The end of background tasks, and of what they worked with; and what another thread has a loop do."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, Final

# How long the end of a cancelled task is waited for, and how often it is cancelled meanwhile: on Python 3.11 a
# cancellation that arrives while `asyncio.wait_for` returns gets lost, and redis-py uses that.
END_BOUND: Final = 0.4
CANCEL_EVERY: Final = 0.05

# How often, in seconds, a thread that waits for an event loop looks whether that is still there.
LOOK_EVERY: Final = 1.0


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end, for a bounded time. Cancelled itself, it has cancelled them."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + END_BOUND
    while (running := [task for task in tasks if not task.done()]) and loop.time() < ends:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_EVERY)


async def conclude(endings: Collection[Awaitable[None]]) -> None:
    """Wait for several endings, in tasks of their own: cancelled, it leaves them to end in the next turns."""
    await asyncio.wait([asyncio.ensure_future(ending) for ending in endings])


async def together(attempts: Collection[Awaitable[None]], passing: tuple[type[Exception], ...]) -> None:
    """Wait for several attempts, each in a task of its own. Raises what one did, before the errors that may pass."""
    found = await asyncio.gather(*attempts, return_exceptions=True)
    errors = [each for each in found if each is not None]
    for error in sorted(errors, key=lambda each: isinstance(each, passing)):
        raise error


class LoopLost(Exception):
    """The event loop is closed, or ended before it had done what it was to do."""


def done_by(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, object]) -> None:
    """From another thread, have an event loop do something, and wait until that is done. Raises what that raises.

    Raises:
        LoopLost: it will never be.
    """
    try:
        done = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise LoopLost from None
    while not done.done():
        concurrent.futures.wait([done], timeout=LOOK_EVERY)
        if loop.is_closed() and not done.done():
            raise LoopLost
    if done.cancelled():
        raise LoopLost
    done.result()
