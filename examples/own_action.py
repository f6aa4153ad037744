"""An action of one's own: its tag is the operation, its fields are the fields of the entry.

    python examples/own_action.py

Its own environment: REDIS_URL, by default redis://localhost:6379/0.
"""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal

import msgspec

from mainflux_events import Action, Identity, Publisher, Subscriber, acting_as

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
STREAM = "example.orders"


class Line(msgspec.Struct, frozen=True):
    article: str
    quantity: int = 1
    price: Decimal = Decimal(0)


class OrderPlaced(Action, tag="order.placed"):
    order_id: str  # text is written as it is
    lines: list[Line] = []  # everything else as JSON: [{"article":"pump","quantity":2,"price":"12.50"}]
    total: Decimal = Decimal(0)  # what equals its default is not written, and reads as the default
    note: str | None = None


class OrderCancelled(Action, tag="order.cancelled"):
    order_id: str
    reason: str = ""


async def main() -> None:
    # Where no cursor is stored, this one begins with what is published after it has started.
    async with (
        Subscriber(REDIS_URL, STREAM, "billing") as subscriber,
        Publisher(REDIS_URL, STREAM) as publisher,
    ):
        lines = [Line("pump", 2, Decimal("12.50")), Line("valve")]
        with acting_as(Identity("u1", "ana@example.com")):
            await publisher.publish(OrderPlaced("o1", lines, total=Decimal("25.00")))
            await publisher.publish(OrderCancelled("o1"))

        async for event in subscriber:
            match event.action:
                case OrderPlaced(order_id=order, lines=lines, total=total):
                    print(f"{event.identity.email} placed {order}: {len(lines)} lines, {total}")
                case OrderCancelled(order_id=order, reason=reason):
                    print(f"{event.identity.email} cancelled {order} {reason or 'without a reason'}")
                    await subscriber.commit(event)  # leaving the loop would leave this one for the next time
                    break


if __name__ == "__main__":
    asyncio.run(main())
