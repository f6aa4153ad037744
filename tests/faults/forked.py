"""A process that forks after its publisher and its subscriber have started, and tells what the child is told.

Argument: the server's URL. Each line of its output: what the child called, and what that raised.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from histories import STREAM, numbered, thing_id
from mainflux_events import Publisher, Subscriber

URL = sys.argv[1]
# Seconds after which a child that hangs is killed, and has told nothing.
BOUND = 5


def tell(name: str, what: str) -> None:
    sys.stdout.write(f"{name}\t{what}\n")
    sys.stdout.flush()


def told(call: Callable[[], object]) -> str:
    """What a forked process is told that calls something."""
    reading, writing = os.pipe()
    if not os.fork():
        signal.alarm(BOUND)
        try:
            call()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.wait()
    return text


async def main() -> None:
    async with (
        Publisher(URL, STREAM) as publisher,
        Subscriber(URL, STREAM, "audit", start="earliest") as subscriber,
    ):
        await publisher.send(numbered(0))
        calls: dict[str, Callable[[], object]] = {
            "publish_nowait": lambda: publisher.publish_nowait(numbered(1)),
            "publish_threadsafe": lambda: publisher.publish_threadsafe(numbered(1)),
            "publish": lambda: asyncio.run(publisher.publish(numbered(1))),
            "send": lambda: asyncio.run(publisher.send(numbered(1))),
            "flush": lambda: asyncio.run(publisher.flush()),
            "Publisher.aclose": lambda: asyncio.run(publisher.aclose()),
            "anext": lambda: asyncio.run(anext(subscriber)),
            "lag": lambda: asyncio.run(subscriber.lag()),
            "Subscriber.aclose": lambda: asyncio.run(subscriber.aclose()),
        }
        for name, call in calls.items():
            tell(name, told(call))
        # The parent goes on.
        await publisher.send(numbered(2))
        tell("received", thing_id(await anext(subscriber)))


asyncio.run(main())
