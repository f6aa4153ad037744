"""One reader of a name: the leases of its cursors, held or waited for in the background.

Whoever holds all of them reads. The others are refused, or wait for their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import Final

from . import answers
from .cursor import Cursor
from .errors import LeaseLost, SubscriberBusy
from .gate import Gate
from .health import Condition
from .holding import Holding, report_kept
from .hooks import LeaseLostDetails, Observers, logger
from .lease import Lease, lease_key
from .line import TROUBLE
from .link import Link, Reply
from .policies import Backoff
from .resp import command

# How often leases are renewed, and how often those that somebody else holds are asked for, in seconds.
RENEW_EVERY: Final = 1.0
ASK_EVERY: Final = 0.5


class Tenure:
    """Holds the leases of a subscriber's cursors, or waits for them.

    Args:
        link: where to connect to.
        name: the subscriber's.
        cursors: gives the cursors of those that read, or will.
        begin: has reading begun, from the stored cursors on.
        end: has it ended, and what was fetched forgotten.
        gate: is open as long as all leases are held.
        standby: whether they are waited for where somebody else holds them.
        backoff: the waits between attempts.
        observers: who is told.
        stored: gives the cursors as they are stored, by stream; None where that is on the same server.

    Attributes:
        reading: whether reading has begun, and not ended since.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        cursors: Callable[[], Iterable[Cursor]],
        begin: Callable[[], None],
        end: Callable[[], Awaitable[None]],
        gate: Gate,
        *,
        standby: bool,
        backoff: Backoff,
        observers: Observers,
        stored: Callable[[], Awaitable[dict[str, Reply]]] | None = None,
    ) -> None:
        self._name = name
        self._stored_elsewhere = stored
        self._cursors = cursors
        self._begin = begin
        self._end = end
        self._gate = gate
        self._standby = standby
        self._observers = observers
        self._leases = {each.stream: Lease(lease_key(each.key)) for each in cursors()}
        self.reading: bool = False
        self._left_before: dict[str, int] = {}
        self._stir = asyncio.Event()
        self._leaving = asyncio.Event()
        self._at_work: Collection[str] = ()
        self._over = asyncio.Event()
        streams = sorted(self._leases)
        self._holdings = [
            Holding(link, {stream: self._leases[stream] for stream in group}, backoff, observers)
            for group in ([[stream] for stream in streams] if link.sharded else [streams])
        ]
        self._asked = self._holdings[0].line
        gate.open(0.0)

    @property
    def held(self) -> bool:
        """Whether all leases are held for sure."""
        return monotonic() < self._until

    @property
    def _until(self) -> float:
        return min(lease.until for lease in self._leases.values())

    @property
    def condition(self) -> Condition:
        """How asking for leases goes."""
        return self._asked.condition

    def fence(self, cursors: Iterable[Cursor]) -> None:
        """From now on, these are stored only as long as their leases are held."""
        for cursor in cursors:
            lease = self._leases[cursor.stream]
            cursor.fence(lease.key, lease.token)

    def look(self) -> None:
        """Renew at once: a commit was refused for want of the lease."""
        self._stir.set()

    # --- life ---

    async def start(self) -> None:
        """Make the first attempt. `held` says whether it worked.

        Raises:
            SubscriberBusy: somebody else holds a lease and renews it, and that is not waited for.
            AccessRefused, ConfigError: what can never work.
            Unreachable, Disconnected, Refusal: what may pass.
        """
        for holding in self._holdings:
            await holding.check()
        while not await self._acquire() and not self._standby:
            await self._pause(ASK_EVERY)
        if self.held:
            self._enter()
        self._gate.open(self._until)

    async def run(self) -> None:
        """Hold the leases, or wait for them, until `leave`.

        Raises:
            LeaseLost, SubscriberBusy: somebody else holds one, and that is not waited for.
        """
        try:
            while not self._leaving.is_set():
                try:
                    await self._step()
                except TROUBLE as trouble:
                    await self._asked.rest(trouble)
            if self._at_work and self.held:
                report_kept(self._name, self._at_work)
            else:
                await self._release()
        finally:
            self._over.set()

    async def leave(self, at_work: Collection[str]) -> None:
        """Have `run` end, and let the leases go; unless of these streams something is being handled still."""
        self._at_work = at_work
        self._leaving.set()
        self._stir.set()
        for holding in self._holdings:
            holding.line.closing.set()
        await self._over.wait()

    async def disconnect(self) -> None:
        """End the connections, where it does not run any more."""
        for holding in self._holdings:
            await holding.line.disconnect()

    async def withdraw(self) -> None:
        """Let the leases go, where it never ran and that takes no time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_EVERY):
                await self._release()

    # --- step by step ---

    async def _step(self) -> None:
        if self.held:
            await self._pause(RENEW_EVERY)
            if not self._leaving.is_set():
                await self._renew()
        elif await self._acquire():
            if self.reading and self._overtaken(found := await self._stored()):
                await self._lose(found)
            else:
                self._go_on()
        elif self.reading:
            await self._lose(await self._stored())
        else:
            await self._pause(ASK_EVERY)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stir.wait()
        self._stir.clear()

    def _each(self) -> Iterator[Holding]:
        """The holdings, in a fixed order. Whoever meets with trouble finds the line that it is on."""
        for holding in self._holdings:
            self._asked = holding.line
            yield holding

    async def _renew(self) -> None:
        for holding in self._each():
            await holding.renew()
        self._gate.open(self._until)

    async def _acquire(self) -> bool:
        """Come to hold all leases, or none. Gives whether all are."""
        for lease in self._leases.values():
            lease.until = 0.0
        left: dict[str, int] = {}
        try:
            for holding in self._each():
                if left := await holding.acquire():
                    break
        except TROUBLE:
            await self._release()
            raise
        if not left:
            return True
        await self._release()
        if not self._standby and not self.reading:
            self._refuse_where_renewed(left)
        return False

    def _refuse_where_renewed(self, left: dict[str, int]) -> None:
        """A lease that nobody has renewed since the last time may be of somebody who died: it ends by itself."""
        for stream, milliseconds in left.items():
            if milliseconds < 0 or milliseconds > self._left_before.get(stream, milliseconds):
                raise SubscriberBusy(self._name, stream)
        self._left_before = left

    def _go_on(self) -> None:
        if not self.reading:
            self._begin()
            self._enter()
        self._gate.open(self._until)

    def _enter(self) -> None:
        self.reading = True
        logger.info("lease_acquired: %r reads %s from now on", self._name, ", ".join(self._leases))

    async def _stored(self) -> dict[str, Reply]:
        """The cursors as they are stored, by stream."""
        if self._stored_elsewhere is not None:
            return await self._stored_elsewhere()
        keys = {cursor.stream: cursor.key for cursor in self._cursors()}
        found: dict[str, Reply] = {}
        for holding in self._each():
            asked = [command("GET", keys[stream]) for stream in holding.leases]
            replies = await holding.ask(asked, answers.found)
            found |= zip(holding.leases, replies, strict=True)
        return found

    def _overtaken(self, found: dict[str, Reply]) -> bool:
        """Whether somebody else has handled more meanwhile. If not, nothing needs to be fetched again."""
        return any(cursor.is_behind(found[cursor.stream]) for cursor in self._cursors())

    async def _lose(self, found: dict[str, Reply]) -> None:
        """Somebody else reads, or has read. Raises LeaseLost where no further turn is waited for."""
        self._gate.open(0.0)
        self.reading = False
        self._report(found)
        await self._end()
        await self._release()
        for lease in self._leases.values():
            lease.renounce()
        if not self._standby:
            raise LeaseLost(self._name)

    async def _release(self) -> None:
        for holding in self._holdings:
            with contextlib.suppress(*TROUBLE):
                await holding.release()

    def _report(self, found: dict[str, Reply]) -> None:
        logger.warning(
            "lease_lost: %r reads %s no more: another subscriber of this name does, or has",
            self._name,
            ", ".join(self._leases),
        )
        for cursor in self._cursors():
            reply = found[cursor.stream]
            stored = reply.decode("ascii", "replace") if isinstance(reply, bytes) else ""
            details = LeaseLostDetails(cursor.stream, cursor.key, cursor.handled, stored, stopped=True)
            self._observers.notify("lease_lost", details)
