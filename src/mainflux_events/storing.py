"""Storing cursors in a `CursorStore`, one transaction of its own after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final, NoReturn, TypeVar

from .cursor import Cursor, parse_id
from .errors import AccessRefused, ConfigError, CursorCorrupt, EventsError, LeaseLost
from .gate import Gate
from .health import Condition
from .hooks import (
    CursorNotSavedDetails,
    LeaseLostDetails,
    Observers,
    Occasionally,
    ReconnectedDetails,
    RetryingDetails,
    logger,
)
from .keeper import Fenced
from .keeping import Keeping
from .line import CLOSING_WAIT
from .link import Unreachable
from .policies import Backoff, Commit, Waits
from .stores import CursorStore, Position

T = TypeVar("T")

_TROUBLE: Final = (AccessRefused, ConfigError, Unreachable)


async def asked(answer: Awaitable[T], patience: float) -> T:
    """What a store answers, within so many seconds. Unreachable where it does not."""
    try:
        async with asyncio.timeout(patience):
            return await answer
    except EventsError:
        raise
    except Exception as error:
        # Not what it says: that may be whom somebody tried to log in as.
        raise Unreachable(f"the store of the cursors: {type(error).__name__} was raised") from error


async def found(store: CursorStore, position: Position, patience: float) -> str | None:
    """The stored cursor, None where there is none.

    Raises:
        CursorCorrupt: what is stored is no ID.
        Unreachable: the store cannot be asked, at the moment.
    """
    id = await asked(store.load(position.name, position.stream), patience)
    if id is not None and parse_id(id) is None:
        raise CursorCorrupt(position.key, f"holds {id[:40]!r}, which is not the ID of an entry")
    return id


class Storer(Keeping[Position]):
    """Stores the cursors of a subscriber, by the policy, where no transaction of a handler's has done so.

    Args:
        store: where.
        positions: what.
        policy, settle: as of `Keeping`.
        gate: is closed while a cursor has to go back: what comes next may not be handled before that is stored.
        backoff: the waits between attempts.
        patience: seconds that the store may take for an answer.
        observers: who is told.
    """

    def __init__(
        self,
        store: CursorStore,
        positions: Sequence[Position],
        policy: Commit,
        settle: Callable[[], bool],
        gate: Gate,
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
    ) -> None:
        super().__init__(positions, policy, settle, observers)
        self._store = store
        self._gate = gate
        self._waits = Waits(backoff.initial, backoff.maximum)
        self._patience = patience
        self._written = asyncio.Event()
        self._closing = asyncio.Event()
        self._barred = False
        self._condition = Condition("commit")
        self._lost: LeaseLost | None = None
        self._log_conflict = Occasionally()
        for position in positions:
            position.lost = self._reporting(position)

    # --- where it begins ---

    async def storing(self) -> Storer:
        """Where the cursors are."""
        return self

    async def load(self, cursors: Sequence[Cursor]) -> list[str | None]:
        """The stored cursors, None where there is none.

        Raises:
            CursorCorrupt: what is stored is no ID.
            Unreachable: the store cannot be asked, at the moment.
        """
        async with self._store._lock:  # what a transaction of an earlier turn is about to commit, counts
            return [await self._found(position) for position in cursors if isinstance(position, Position)]

    async def first(self, cursor: Cursor, id: str) -> str | None:
        """Store the first cursor. Where another subscriber of this name was quicker, gives what that has stored."""
        assert isinstance(cursor, Position)
        if await self._ask(self._store.move(cursor.name, cursor.stream, None, id)):
            return None
        return await self._found(cursor) or self._vanished()

    async def check(self, cursor: Cursor, id: str) -> None:
        """See whether it could be stored, by storing again what is."""
        assert isinstance(cursor, Position)
        await self._ask(self._store.move(cursor.name, cursor.stream, id, id))

    def _vanished(self) -> NoReturn:
        raise Unreachable("a cursor is there, and is not")

    async def _found(self, position: Position) -> str | None:
        return await found(self._store, position, self._patience)

    async def _ask(self, answer: Awaitable[T]) -> T:
        return await asked(answer, self._patience)

    @property
    def condition(self) -> Condition | None:
        return self._condition if any(position.due for position in self._tracks) else None

    # --- storing ---

    def _finish(self, track: Position, ids: Sequence[bytes]) -> None:
        track.finish(ids[-1], len(ids))

    def go_back(self, cursor: Cursor, id: str) -> None:
        """The stream is another one, and reading goes on behind this ID: store that, before anything is handled."""
        cursor.go_back(id)
        self._barred = True
        self._gate.bar(True)
        self.write()

    def write(self) -> None:
        self._pending = 0
        if any(position.due for position in self._tracks):
            self._written.set()
        self.look_out()

    def _hurry(self) -> None:
        """It is being stored as fast as it can be."""

    async def run(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            for position in self._tracks:
                while position.due:
                    await self._try(position)
            if self._barred and not any(each.goes_back for each in self._store._positions.values()):
                self._barred = False
                self._gate.bar(False)
            self._settle()

    async def _try(self, position: Position) -> None:
        try:
            await self._save(position)
        except _TROUBLE as trouble:
            await self._rest(position, trouble)
        except LeaseLost as error:
            self._lost = error
            self._settled.set()
            raise
        else:
            if self._waits.attempts:
                self._condition = Condition("commit", recovered=monotonic())
                self._waits.reset()
                logger.info("commit_reconnected: %r", position.stream)
                self._observers.notify("reconnected", ReconnectedDetails(position.stream, "commit"))

    async def _save(self, position: Position) -> None:
        async with self._store._lock:
            if not position.due:
                return  # a transaction was quicker
            id = position.handled
            while True:
                position.doubt(id)
                expected = position.known
                move = self._store.move(position.name, position.stream, expected, id)
                if await self._ask(move) or position.refused(await self._found(position), id):
                    break
            position.moved(id)

    async def _rest(self, position: Position, trouble: Exception) -> None:
        seconds = self._waits.next()
        if self._closing.is_set():
            seconds = min(seconds, CLOSING_WAIT)
        reason, stream = str(trouble), position.stream
        failing = self._condition.failing or monotonic()
        self._condition = Condition("commit", failing=failing, reason=reason)
        details = CursorNotSavedDetails(stream, position.key, position.handled, reason)
        logger.warning("cursor_not_saved: %r at %s: %s", details.key, details.id, reason)
        self._observers.notify("cursor_not_saved", details)
        retrying = RetryingDetails(stream, "commit", self._waits.attempts, seconds, reason)
        logger.warning("commit_retrying: %r, the next attempt in %.2f s", stream, seconds)
        self._observers.notify("retrying", retrying)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await (asyncio.sleep(seconds) if self._closing.is_set() else self._closing.wait())

    # --- dead letters ---

    async def passing(self, track: Position, id: bytes) -> None:
        """Nothing that goes with the dead letter of an entry. Waits until all that is finished is stored.

        Raises:
            Fenced: another subscriber of the name reads now.
        """
        try:
            await self.flush(None)
        except LeaseLost:
            raise Fenced from None
        if self._over:
            raise Fenced

    # --- the end ---

    async def flush(self, timeout: float | None) -> None:
        if self._lost is None:
            await super().flush(timeout)
        if self._lost is not None:
            raise self._lost.with_traceback(None)

    def close(self) -> None:
        self._closing.set()
        super().close()

    async def conclude(self, timeout: float) -> None:
        with suppress(LeaseLost):
            await super().conclude(timeout)

    # --- reports ---

    def report_unsaved(self) -> None:
        for position in self._tracks:
            if position.due:
                logger.error("cursor_not_saved: %r at %s, on closing", position.key, position.handled)

    def _reporting(self, position: Position) -> Callable[[str], None]:
        def report(found: str) -> None:
            details = LeaseLostDetails(position.stream, position.key, position.handled, found)
            if self._log_conflict():
                logger.warning(
                    "lease_lost: the cursor %r was moved by somebody else, to %s: is there another subscriber of this "
                    "name?",
                    details.key,
                    found or "nothing",
                )
            self._observers.notify("lease_lost", details)

        return report
