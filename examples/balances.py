"""Keeps the balances of accounts in a database, exactly: kill it whenever you like, and start it again.

    python examples/balances.py

Its own environment: REDIS_URL, by default redis://localhost:6379/0; DATABASE_URL, by default a file of SQLite. It needs
`pip install 'mainflux-events[sql]' aiosqlite`, or asyncpg for a database such as postgresql+asyncpg://localhost/shop.
"""

from __future__ import annotations

import asyncio
import os

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from mainflux_events import Action, Event, Retry, Subscriber
from mainflux_events.contrib.sql import SqlCursors

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///balances.sqlite")
STREAM = "example.payments"

tables = sa.MetaData()
balances = sa.Table(
    "balances",
    tables,
    sa.Column("account", sa.String(40), primary_key=True),
    sa.Column("cents", sa.BigInteger, nullable=False),
)


class Paid(Action, tag="payment.made"):
    account: str
    cents: int


async def main() -> None:
    engine = create_async_engine(DATABASE_URL)
    cursors = SqlCursors(engine)
    await cursors.create()
    async with engine.begin() as connection:
        await connection.run_sync(tables.create_all)

    async def book(event: Event) -> None:
        paid = event.action
        assert isinstance(paid, Paid)
        # Both are committed together or not at all: that the account has more, and that this event was seen to.
        async with cursors.transaction(event) as connection:
            mine = balances.c.account == paid.account
            more = balances.update().where(mine).values(cents=balances.c.cents + paid.cents)
            if (await connection.execute(more)).rowcount == 0:
                await connection.execute(balances.insert().values(account=paid.account, cents=paid.cents))

    subscriber = Subscriber(REDIS_URL, STREAM, "balances", start="earliest", actions=[Paid], cursors=cursors)
    try:
        # What fails is tried for hours. A payment that cannot be booked stops it: it must not be passed over.
        await subscriber.run(book, retry=Retry(attempts=1000, initial=0.5), on_failure="raise")
    finally:
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
