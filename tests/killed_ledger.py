"""A process that notes batches of two streams in a database, and is killed at one of them, as hard as can be.

Arguments: the URLs of the server and of the database, how many batches it handles, and when to be killed then:
"within" the transaction of the next one, when all of it is written, or "behind" that, when it is committed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from consuming import thing
from mainflux_events import Event, Subscriber
from mainflux_events.contrib.sql import SqlCursors

STREAMS = ["things", "others"]
BATCH = 7

NOTES = sa.Table(
    "notes", sa.MetaData(), sa.Column("stream", sa.String(20)), sa.Column("thing", sa.String(20))
)


class Ledger:
    """What notes each event in the transaction that moves its cursor.

    Attributes:
        cursors: where that is.
        noted: the events so far.
    """

    def __init__(self, database: str) -> None:
        self.engine = create_async_engine(database)
        self.cursors = SqlCursors(self.engine)
        self.noted: list[Event] = []

    def subscriber(self, server: str) -> Subscriber:
        return Subscriber(server, STREAMS, "ledger", start="earliest", cursors=self.cursors)

    async def create(self) -> None:
        await self.cursors.create()
        async with self.engine.begin() as connection:
            await connection.run_sync(NOTES.metadata.create_all)

    async def note(self, events: list[Event]) -> None:
        async with self.cursors.transaction(events) as connection:
            rows = [{"stream": event.stream, "thing": thing(event)} for event in events]
            await connection.execute(NOTES.insert(), rows)
            self.before_the_commit(events)
        self.noted += events
        self.behind_the_commit(events)

    def before_the_commit(self, events: list[Event]) -> None:
        """Called in the transaction."""

    def behind_the_commit(self, events: list[Event]) -> None:
        """Called when it is committed."""


async def main(server: str, database: str, batches: str, when: str) -> None:
    ledger = Ledger(database)
    left = int(batches)

    def count(events: list[Event]) -> None:
        nonlocal left
        if left == 0 and len({event.stream for event in events}) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        left = max(0, left - 1)

    if when == "within":
        ledger.before_the_commit = count  # type: ignore[method-assign]
    else:
        ledger.behind_the_commit = count  # type: ignore[method-assign]
    await ledger.subscriber(server).run(ledger.note, batch=BATCH)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
