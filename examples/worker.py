"""A service that does nothing but handle events, as it runs in a container or under systemd.

    python examples/worker.py

It ends on SIGTERM or Ctrl-C: the event in hand is cancelled and comes again, what is handled is stored.
Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from mainflux_events import THINGS_STREAM, Event, Retry, Subscriber, ThingRemoved

logger = logging.getLogger(__name__)
REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")


async def handle(event: Event) -> None:
    print("forgetting", event.action.id, flush=True)  # type: ignore[attr-defined]


async def main() -> None:
    subscriber = Subscriber(
        REDIS_URL,
        THINGS_STREAM,
        "forget",
        actions={ThingRemoved},
        exclusive="standby",  # a second one may run for the case that this one fails
        dead_letter=f"{THINGS_STREAM}:dead",
    )
    running = asyncio.create_task(subscriber.run(handle, retry=Retry(attempts=5, initial=1.0), timeout=30))
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        logger.info("ended: %s", subscriber.stats)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
