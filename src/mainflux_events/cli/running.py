"""Running a command that waits: an event loop that signals end in an orderly way."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run`, where SIGTERM and SIGHUP do what Ctrl-C does: what was begun is cleaned up.

    A second signal ends the process at once.

    Raises:
        KeyboardInterrupt: it was ended so.
    """
    try:
        return asyncio.run(_cancellable(main))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _cancellable(main: Coroutine[Any, Any, Result]) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end() -> None:
        for each in handled:
            loop.remove_signal_handler(each)
        task.cancel()

    # Not SIGINT: asyncio takes care of that one. And what is ignored, by nohup for one, stays so.
    handled = [each for each in _ENDING if signal.getsignal(each) is signal.SIG_DFL]
    for each in handled:
        loop.add_signal_handler(each, end)
    return await main


async def readable(file: int) -> None:
    """Wait until a read from a file descriptor would not wait. A signal finds an event loop that runs."""
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(file, there.set)
    except PermissionError:
        return  # a file on a disk, which always is
    try:
        await there.wait()
    finally:
        loop.remove_reader(file)
