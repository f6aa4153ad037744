"""A process that handles many events at once, and says when it has handled one, until it is killed, as hard as can be.

Arguments: the server's URL, how many handlers there are at a time, how many events a call has, and at which event's
handler to be killed, when all that can be handled beside it is; with none, somebody else kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

from consuming import STREAM, thing
from mainflux_events import Event, Subscriber
from mainflux_events.workers import WINDOW

URL, CONCURRENCY, BATCH, LAST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
RANDOM = random.Random(1)

handled: set[str] = set()


async def handle(event: Event) -> None:
    if thing(event) == LAST:
        before = int(LAST[1:]) - 1
        while len(handled) < before + WINDOW * CONCURRENCY - 1:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(RANDOM.randint(1, 5)):
        await asyncio.sleep(0)
    handled.add(thing(event))
    os.write(1, f"{thing(event)}\n".encode())


async def handle_all(events: list[Event]) -> None:
    for event in events:
        await handle(event)


async def main() -> None:
    subscriber = Subscriber(URL, STREAM, "audit", start="earliest")
    if BATCH == 1:
        await subscriber.run(handle, concurrency=CONCURRENCY)
    else:
        await subscriber.run(handle_all, concurrency=CONCURRENCY, batch=BATCH)


asyncio.run(main())
