"""What the pictures show: publishers and subscribers of one process, at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import anyio

from mainflux_events import (
    THINGS_STREAM,
    Action,
    Event,
    GroupSubscriber,
    Publisher,
    Retry,
    Subscriber,
    ThingCreated,
    ThingUpdated,
)

# Events a second.
THINGS, ORDERS = 400, 60

# What a handler fails at, each time that it comes: after a quarter of a second, and every five.
POISON = ThingUpdated("t50", "p1", name="sensor 2")

Part = Publisher | Subscriber | GroupSubscriber


class OrderPlaced(Action, tag="order.placed"):
    order_id: str


@asynccontextmanager
async def scene(url: str) -> AsyncIterator[list[Part]]:
    """Two publishers, a subscriber that keeps up, one that fails at times and falls behind, a group of two consumers.

    All of them are at work as long as this is entered. It gives them.
    """
    things = Publisher(url, THINGS_STREAM, max_len=20_000, attempt_timeout=1.0)
    orders = Publisher(url, "orders", attempt_timeout=1.0)
    audit = Subscriber(url, THINGS_STREAM, "audit", start="earliest")
    search = Subscriber(url, THINGS_STREAM, "search", start="earliest", dead_letter="search.dead")
    billing = [
        GroupSubscriber(url, "orders", "billing", consumer=f"billing-{number}", start="earliest")
        for number in (1, 2)
    ]
    async with anyio.create_task_group() as tasks:
        for publisher in (things, orders):
            await tasks.start(publisher.run)
        await tasks.start(audit.run, _nothing)
        await tasks.start(_consume, search, _sometimes_fails)
        for consumer in billing:
            await tasks.start(consumer.run, _takes_its_time)
        tasks.start_soon(_publish_things, things)
        tasks.start_soon(_publish_orders, orders)
        yield [things, orders, audit, search, *billing]
        tasks.cancel_scope.cancel()


async def _consume(
    subscriber: Subscriber, handler: object, *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    retry = Retry(attempts=2, initial=0.02)
    await subscriber.run(handler, retry=retry, task_status=task_status)  # type: ignore[arg-type]


def _nothing(event: Event) -> None:
    pass


async def _sometimes_fails(event: Event) -> None:
    await asyncio.sleep(0.002)
    if event.action == POISON:
        raise LookupError("there is no such thing")


async def _takes_its_time(event: Event) -> None:
    await asyncio.sleep(0.02)


async def _publish_things(publisher: Publisher) -> None:
    for number in count():
        id = f"t{number % 997}"
        await publisher.publish(ThingCreated(id, "g1", "p1", name="sensor"))
        await publisher.publish(ThingUpdated(id, "p1", name="sensor 2"))
        await asyncio.sleep(2 / THINGS)


async def _publish_orders(publisher: Publisher) -> None:
    for number in count():
        await publisher.publish(OrderPlaced(f"o{number}"))
        await asyncio.sleep(1 / ORDERS)
