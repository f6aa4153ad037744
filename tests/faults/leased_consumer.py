"""A process that is one of several readers of a name, to be stopped and killed.

Arguments: the server's URL, and how long a lease lasts, in seconds. It notes each event that it handles in a list of
the server, with its own process ID, and says on its output when it has lost its turn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

from redis.asyncio import Redis

from consuming import thing
from histories import STREAM
from mainflux_events import Event, Hooks, Subscriber, lease, tenure
from mainflux_events.hooks import LeaseLostDetails

URL, TTL = sys.argv[1], float(sys.argv[2])
HANDLED: Final = "handled"

lease.TTL = TTL  # type: ignore[misc]
tenure.RENEW_EVERY = TTL / 5  # type: ignore[misc]
tenure.ASK_EVERY = TTL / 10  # type: ignore[misc]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Says(Hooks):
    def lease_lost(self, details: LeaseLostDetails) -> None:
        say("lost" if details.stopped else "moved")


async def main() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with Redis.from_url(URL) as client:

        async def handle(event: Event) -> None:
            await client.rpush(HANDLED, f"{os.getpid()} {thing(event)}")

        async with Subscriber(
            URL, STREAM, "audit", start="earliest", exclusive="standby", hooks=Says()
        ) as subscriber:
            running = asyncio.create_task(subscriber.run(handle))
            say("started")
            await stopping.wait()
        await running


asyncio.run(main())
