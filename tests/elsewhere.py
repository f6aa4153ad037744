"""A process that starts a publisher and a subscriber, and then uses them where they do not belong.

Arguments: the server's URL, and where: in a process that was forked, on a second event loop, or when the loop is
closed. Prints what comes of each call, a line each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mainflux_events import Event, Publisher, Subscriber, ThingRemoved

URL, WHERE = sys.argv[1:]
EVENT = Event(ThingRemoved(id="t1"))
PUBLISHER = Publisher(URL, "things")
SUBSCRIBER = Subscriber(URL, "things", "audit")

AWAITED: list[Callable[[], Any]] = [
    lambda: PUBLISHER.publish(EVENT),
    lambda: PUBLISHER.send(EVENT),
    lambda: PUBLISHER.forward(EVENT),
    PUBLISHER.flush,
    PUBLISHER.start,
    PUBLISHER.aclose,
    PUBLISHER.run,
    lambda: anext(SUBSCRIBER),
    lambda: SUBSCRIBER.commit(EVENT),
    SUBSCRIBER.lag,
    lambda: SUBSCRIBER.run(print),
    SUBSCRIBER.start,
    SUBSCRIBER.aclose,
]
CALLED: list[Callable[[], Any]] = [
    lambda: PUBLISHER.publish_nowait(EVENT),
    lambda: aiter(SUBSCRIBER),
]


async def start() -> None:
    await PUBLISHER.start()
    await SUBSCRIBER.start()


def report(error: BaseException | None) -> None:
    sys.stdout.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.flush()


async def use() -> None:
    for call in AWAITED:
        try:
            report(await asyncio.wait_for(call(), 2.0))
        except Exception as error:
            report(error)
    use_without_a_loop(*CALLED)


def use_without_a_loop(*calls: Callable[[], Any]) -> None:
    for call in calls:
        try:
            report(call())
        except Exception as error:
            report(error)


def fork() -> None:
    child = os.fork()
    if child == 0:
        use_without_a_loop(*CALLED, lambda: PUBLISHER.publish_threadsafe(EVENT))
        asyncio.run(use())
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)


async def forked() -> None:
    await start()
    fork()
    # In the parent all is as it was.
    await PUBLISHER.send(EVENT)
    assert (await anext(SUBSCRIBER)).action == EVENT.action
    await PUBLISHER.aclose()
    await SUBSCRIBER.aclose()


signal.alarm(30)  # ends it, whatever hangs
match WHERE:
    case "forked":
        asyncio.run(forked())
    case "second loop":
        asyncio.run(start())
        use_without_a_loop(lambda: PUBLISHER.publish_threadsafe(EVENT))
        asyncio.run(use())
    case "closed loop":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(start())
        loop.close()
        use_without_a_loop(*CALLED, lambda: PUBLISHER.publish_threadsafe(EVENT))
        asyncio.run(use())
