"""A process that consumes, and writes down what it handles before anything else, where no kill can undo it.

Arguments: the backend, the server's URL, the file, the ID of the thing whose handler kills the process, and, where
it is not to be one after another, how many handlers there are at a time, and how many events a call has.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from contract.backends import BACKENDS, STREAM
from mainflux_events import Event, ThingRemoved

BACKEND, URL, NOTES, LAST, *NUMBERS = sys.argv[1:]
CONCURRENCY, BATCH = map(int, NUMBERS or ("1", "1"))


async def main() -> None:
    notes = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(event: Event) -> None:
        assert isinstance(event.action, ThingRemoved)
        os.write(notes, f"{event.action.id}\n".encode())
        if event.action.id == LAST:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)

    async def handle_all(events: list[Event]) -> None:
        for event in events:
            await handle(event)

    subscriber = BACKENDS[BACKEND].subscriber(URL, STREAM, "audit", start="earliest")
    handler = handle if BATCH == 1 else handle_all
    await subscriber.run(handler, concurrency=CONCURRENCY, batch=BATCH)


asyncio.run(main())
