"""Cursors in a database, by SQLAlchemy's asyncio engine: what a handler writes there takes effect exactly once.

    cursors = SqlCursors(engine)
    await cursors.create()
    async with Subscriber("redis://localhost:6379/0", "mainflux.things", "billing", cursors=cursors) as subscriber:
        async for event in subscriber:
            async with cursors.transaction(event) as connection:
                await connection.execute(...)

It needs the extra `sql`: `pip install 'mainflux-events[sql]'`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..cursor import checked_name, parse_id
from ..errors import ConfigError
from ..events import Event
from ..stores import CursorStore

__all__ = ["SqlCursors"]


class SqlCursors(CursorStore):
    """The cursors of one subscriber in a table, a row for each stream.

    Args:
        engine: of the database. It stays yours to dispose of.
        table: the name of the table. Any number of subscribers, each of a name of its own, may share one.

    Attributes:
        table: the table, for migrations and queries: `name` and `stream` are its key, `id` is that of the last entry
            that is done with, `moved_at` says since when.

    Raises:
        ConfigError: it is no AsyncEngine.
    """

    def __init__(self, engine: AsyncEngine, *, table: str = "mainflux_cursors") -> None:
        if not isinstance(engine, AsyncEngine):
            raise ConfigError(
                f"engine: what create_async_engine gives is wanted, not {type(engine).__name__}"
            )
        self._engine = engine
        self.table: sa.Table = sa.Table(
            table,
            sa.MetaData(),
            sa.Column("name", sa.String(255), primary_key=True),
            sa.Column("stream", sa.String(255), primary_key=True),
            sa.Column("id", sa.String(41), nullable=False),
            sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        )

    async def create(self) -> None:
        """Create the table, where it is not there."""
        try:
            async with self._engine.begin() as connection:
                await connection.run_sync(self.table.metadata.create_all)
        except DBAPIError:
            # Two at once: PostgreSQL refuses the second one, and not always as a table that is there.
            async with self._engine.connect() as connection:
                if not await connection.run_sync(self._exists):
                    raise

    def _exists(self, connection: sa.Connection) -> bool:
        return sa.inspect(connection).has_table(self.table.name)

    @asynccontextmanager
    async def transaction(self, given: Event | Sequence[Event]) -> AsyncGenerator[AsyncConnection, None]:
        """A transaction in which an event is handled: what is done in it and that it was done are committed together.

        The cursor is moved first, which locks its row until the end. An error rolls both back.

        Args:
            given: the event, or the list that the handler of a batch gets: the cursor of each stream is moved to the
                last event of it. The last event alone passes all before it of its own stream.

        Raises:
            LeaseLost: another subscriber of the name has handled more; nothing is done.
            AlreadyHandled: a transaction of this was committed before; nothing is done. `run` goes on.
            ValueError: the subscriber of these cursors did not receive this event.
        """
        events = [given] if isinstance(given, Event) else given
        async with self.moving_all(events) as moves, self._engine.begin() as connection:
            for move in moves:
                while not await self._update(connection, move.name, move.stream, move.expected, move.id):
                    move.refused(await self._select(connection, move.name, move.stream))
            yield connection
            for move in moves:
                move.committing()

    async def seek(self, name: str, stream: str, id: str) -> None:
        """Have a subscriber begin behind this entry when it starts the next time. One that reads now stops: LeaseLost.

        Raises:
            ConfigError: it is not the ID of an entry.
        """
        checked_name(name)
        if parse_id(id) is None:
            raise ConfigError(f"id: that of an entry is wanted, such as '1526919030474-55', not {id!r}")
        while not await self.move(name, stream, await self.load(name, stream), id):
            pass  # somebody was quicker

    # --- a store ---

    async def load(self, name: str, stream: str) -> str | None:
        async with self._connected() as connection:
            return await self._select(connection, name, stream)

    async def move(self, name: str, stream: str, expected: str | None, id: str) -> bool:
        try:
            async with self._connected() as connection:
                if expected is not None:
                    return await self._update(connection, name, stream, expected, id)
                await connection.execute(self.table.insert().values(name=name, stream=stream, id=id))
        except IntegrityError:
            return False  # there is one
        return True

    async def _select(self, connection: AsyncConnection, name: str, stream: str) -> str | None:
        key = (self.table.c.name == name) & (self.table.c.stream == stream)
        found: str | None = await connection.scalar(sa.select(self.table.c.id).where(key))
        return found

    async def _update(
        self, connection: AsyncConnection, name: str, stream: str, expected: str, id: str
    ) -> bool:
        columns = self.table.c
        row = (columns.name == name) & (columns.stream == stream) & (columns.id == expected)
        moved = self.table.update().where(row).values(id=id, moved_at=sa.func.now())
        return (await connection.execute(moved)).rowcount == 1

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[AsyncConnection, None]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (ProgrammingError, OperationalError) as error:
            # PostgreSQL says the first where the table is missing, or a right; SQLite the second, as of much else.
            if isinstance(error, OperationalError) and "no such table" not in str(error.orig):
                raise
            cause = type(getattr(error.orig, "__cause__", None) or error.orig).__name__
            raise ConfigError(
                f"cursors: the table {self.table.name!r} is not there, or may not be read and written ({cause}): "
                "create() makes it"
            ) from error
