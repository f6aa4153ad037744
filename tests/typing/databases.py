"""What a type checker makes of cursors in a database."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mainflux_events import CursorStore, Event, Subscriber
from mainflux_events.contrib.sql import SqlCursors


async def keeps_cursors_in_a_database(engine: AsyncEngine) -> None:
    cursors = SqlCursors(engine)
    store: CursorStore = cursors
    subscriber = Subscriber("redis://localhost:6379/0", "mainflux.things", "inventory", cursors=store)

    async def handle(event: Event) -> None:
        async with cursors.transaction(event) as connection:
            assert_type(connection, AsyncConnection)

    await subscriber.run(handle)
    assert_type(await cursors.load("inventory", "mainflux.things"), str | None)
