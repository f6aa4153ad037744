"""The leases of partitions on one server: asked for, renewed and handed over, as a consumer's share says."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Collection
from time import monotonic
from typing import Final, Protocol

from .health import Condition
from .holding import Holding, report_kept
from .hooks import LeaseLostDetails, Observers, logger
from .lease import Lease
from .line import TROUBLE
from .link import Channel, Link
from .policies import Backoff

# How often leases are renewed, and how often those are asked for that somebody else still holds, in seconds.
RENEW_EVERY: Final = 1.0
ASK_EVERY: Final = 0.25

# The waits between attempts. After a fail-over a partition should not wait for much longer than its lease lasts.
BACKOFF: Final = Backoff(initial=0.25, maximum=2.0)


class Tenancy(Protocol):
    """One partition, from when its lease is held on: who reads it, and who stores how far it is handled."""

    @property
    def key(self) -> str:
        """The key of the cursor."""
        ...

    @property
    def handled(self) -> str:
        """The ID of the last entry that is handled."""
        ...

    def withdraw(self) -> bool:
        """Read and hand out no more of it. Gives whether all that was handed out is finished."""
        ...

    def forget(self) -> None:
        """The same, and what is in hand is not ours any more."""

    async def flush(self, timeout: float | None) -> None:
        """Wait until what is handled is stored. TimeoutError where it is not in time."""

    async def close(self) -> None:
        """End what it has in the background, after `forget`."""


# Begins to read a partition: its stream, its lease, and what is to be called when something of it is finished, or
# when its lease may be lost.
Enter = Callable[[str, Lease, Callable[[], None]], Tenancy]


class Desk:
    """Holds the leases of a share of the partitions.

    Args:
        link: where to connect to.
        name: the subscriber's.
        leases: by the streams of the partitions.
        attach: sees that a cursor is stored for each of these, over a connection to their server.
        enter: begins to read one.
        changed: told when something else is held, or for longer.
        observers: who is told.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        leases: dict[str, Lease],
        attach: Callable[[list[str], Channel], Awaitable[None]],
        enter: Enter,
        changed: Callable[[], None],
        observers: Observers,
    ) -> None:
        self._name = name
        self._leases = leases
        self._holding = Holding(link, leases, BACKOFF, observers)
        self._attach = attach
        self._attached = False
        self._enter = enter
        self._changed = changed
        self._observers = observers
        self._share: frozenset[str] = frozenset()
        self._tenancies: dict[str, Tenancy] = {}
        # Those that are not read any more. They are let go, whosever share they are meanwhile.
        self._withdrawn: set[str] = set()
        self._ended: list[Tenancy] = []
        self._expiry: asyncio.TimerHandle | None = None
        self._closing = False
        self._stir = asyncio.Event()
        self._leaving = asyncio.Event()
        self._at_work: Collection[str] = ()
        self._over = asyncio.Event()

    @property
    def held(self) -> list[str]:
        """The streams that are read."""
        return list(self._tenancies)

    @property
    def condition(self) -> Condition:
        """How the connection does."""
        return self._holding.line.condition

    @property
    def until(self) -> float:
        """Until when all of them are held for sure, by the monotonic clock."""
        return min((self._leases[stream].until for stream in self._tenancies), default=math.inf)

    def assign(self, share: frozenset[str]) -> None:
        """Of these partitions, those that are on this server are to be held from now on, and no others."""
        mine = share.intersection(self._leases)
        if mine != self._share and not self._closing:
            self._share = mine
            self.stir()

    def stir(self) -> None:
        """There may be something to do."""
        self._stir.set()

    # --- life ---

    async def check(self) -> None:
        """Make the first attempt.

        Raises:
            AccessRefused, ConfigError, CursorCorrupt: what can never work.
            Unreachable, Disconnected, Refusal: what may pass.
        """
        await self._holding.check()
        await self._attach_all()

    async def run(self) -> None:
        """Hold the share, until `leave`."""
        try:
            while not self._leaving.is_set():
                try:
                    await self._step()
                except TROUBLE as trouble:
                    await self._holding.line.rest(trouble)
                else:
                    await self._pause()
            await self._give_up_all()
        finally:
            self._over.set()

    def close(self) -> None:
        """Take on nothing any more."""
        self._closing = True
        self._share = self._share.intersection(self._tenancies)
        self._holding.line.closing.set()

    async def leave(self, at_work: Collection[str]) -> None:
        """Have `run` end, and let all leases go, but for those of streams of which something is being handled."""
        self._at_work = at_work
        self._leaving.set()
        self._holding.line.closing.set()
        self.stir()
        await self._over.wait()

    async def disconnect(self) -> None:
        """End the connections, where it does not run any more."""
        self._forget(list(self._tenancies))
        self._held_else()
        await self._close_ended()
        await self._holding.line.disconnect()

    # --- step by step ---

    async def _step(self) -> None:
        await self._close_ended()
        await self._attach_all()
        await self._renew()
        await self._hand_over()
        await self._take_on()

    async def _pause(self) -> None:
        seconds = ASK_EVERY if self._share.difference(self._tenancies) else RENEW_EVERY
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stir.wait()
        self._stir.clear()

    async def _attach_all(self) -> None:
        """All cursors are stored at once: whoever reads a partition later is to begin where this was said."""
        if not self._attached:
            await self._attach(list(self._leases), await self._holding.line.channel())
            self._attached = True

    async def _renew(self) -> None:
        if not self._tenancies:
            return
        try:
            await self._holding.renew(self._tenancies)
        finally:
            self._lose([stream for stream in self._tenancies if not self._leases[stream].until])

    async def _hand_over(self) -> None:
        """Let go what is somebody else's share, once what is in hand of it is finished and stored."""
        self._withdrawn.update(self._tenancies.keys() - self._share)
        finished = [stream for stream in self._withdrawn if self._tenancies[stream].withdraw()]
        stored = await asyncio.gather(*map(self._stored, finished))
        # Some may have been lost meanwhile.
        over = [each for each, done in zip(finished, stored, strict=True) if done and each in self._tenancies]
        if not over:
            return
        self._forget(over)
        self._held_else()
        await self._close_ended()
        try:
            await self._holding.release(over)
        finally:
            self._renounce(over)
        logger.info("lease_released: %r hands over %s", self._name, ", ".join(over))

    async def _stored(self, stream: str) -> bool:
        try:
            await self._tenancies[stream].flush(RENEW_EVERY)
        except TimeoutError:
            return False
        return True

    async def _take_on(self) -> None:
        wanted = self._share.difference(self._tenancies)
        if not wanted or self._closing:
            return
        await self._holding.acquire(wanted)
        wanted &= self._share  # which may be another one by now
        mine = [stream for stream in self._leases if stream in wanted and self._leases[stream].until]
        for stream in mine:
            self._tenancies[stream] = self._enter(stream, self._leases[stream], self.stir)
        self._held_else()
        if mine:
            logger.info("lease_acquired: %r reads %s from now on", self._name, ", ".join(mine))

    async def _give_up_all(self) -> None:
        """What is handled is stored, as far as it can be: let go all that is held."""
        if kept := self._tenancies.keys() & self._at_work:
            report_kept(self._name, kept)
        self._forget(list(self._tenancies))
        self._held_else()
        await self._close_ended()
        with contextlib.suppress(*TROUBLE):
            await self._holding.release(self._leases.keys() - kept)

    # --- what is held ---

    def _held_else(self) -> None:
        """Something else is held, or for longer: see that it is lost in time where it is not renewed."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._tenancies:
            seconds = max(0.0, self.until - monotonic())
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._expire)
        self._changed()

    def _expire(self) -> None:
        now = monotonic()
        self._lose([stream for stream in self._tenancies if self._leases[stream].until <= now])

    def _lose(self, streams: list[str]) -> None:
        """Others may hold these now."""
        for stream in streams:
            tenancy = self._tenancies[stream]
            logger.warning(
                "lease_lost: %r reads %s no more: it could not be renewed in time", self._name, stream
            )
            details = LeaseLostDetails(stream, tenancy.key, tenancy.handled, "", stopped=True)
            self._observers.notify("lease_lost", details)
        self._forget(streams)
        self._renounce(streams)
        self._held_else()

    def _forget(self, streams: list[str]) -> None:
        for stream in streams:
            tenancy = self._tenancies.pop(stream)
            self._withdrawn.discard(stream)
            tenancy.forget()
            self._ended.append(tenancy)

    def _renounce(self, streams: list[str]) -> None:
        for stream in streams:
            self._leases[stream].renounce()

    async def _close_ended(self) -> None:
        ended = list(self._ended)
        await asyncio.gather(*(tenancy.close() for tenancy in ended))
        del self._ended[: len(ended)]
