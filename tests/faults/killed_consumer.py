"""A process that consumes until one event's handler is called, and is killed there, as hard as can be.

Arguments: the server's URL, the ID of the thing whose handler kills, what the handlers do, and the policy of commits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from consuming import thing
from histories import STREAM
from mainflux_events import Commit, Event, Subscriber, ThingRemoved

URL, LAST, KIND, POLICY = sys.argv[1:]
POLICIES = {"each": Commit.each(), "every 10": Commit.every(events=10, seconds=1000)}


async def returns(event: Event) -> None:
    pass


async def awaits_a_turn(event: Event) -> None:
    await asyncio.sleep(0)


async def awaits_every_third_time(event: Event) -> None:
    if int(thing(event)[1:]) % 3 == 0:
        await asyncio.sleep(0)


async def awaits_another_task(event: Event) -> None:
    await asyncio.create_task(asyncio.sleep(0))


async def takes_a_millisecond(event: Event) -> None:
    await asyncio.sleep(0.001)


async def handle(event: Event) -> None:
    if thing(event) == LAST:
        os.kill(os.getpid(), signal.SIGKILL)
    await globals()[KIND](event)


asyncio.run(
    Subscriber(URL, STREAM, "audit", start="earliest", actions=[ThingRemoved], commit=POLICIES[POLICY]).run(
        handle
    )
)
