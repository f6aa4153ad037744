"""Keeping what a consumer of a group holds, and taking over what others left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from . import answers
from .acks import Acknowledger, Redelivery
from .cursor import FIRST
from .entries import Entries, Entry
from .errors import DeliveredTooOften
from .health import Condition
from .hooks import LeaseLostDetails, Observers, Occasionally, logger
from .inbox import Batch, Inbox, Part
from .link import Disconnected
from .notices import Notices
from .pending import Fetch, Share
from .refusals import Refusal
from .sizing import FIRST_ENTRIES, SHORT_ENTRIES

# Seconds between two looks at what is pending: so late at most is taken up what somebody gave back.
LOOK_EVERY: Final = 1.0

# In one look so many steps at most, each over ten times as many pending entries as are to be taken over.
LOOKS: Final = 10

# Consumers that were silent for so many seconds (and twice as long as one has to be to lose its entries), and for
# whom nothing is pending, are removed. That is seen to so often.
REMOVE_AFTER: Final = 600.0
SWEEP_EVERY: Final = 60.0


class Claimer:
    """Sees to what is pending in the streams of one server.

    Args:
        shares: what is held of the streams.
        keeper: who acknowledges it, and whose connection is used.
        claim_after: seconds that a consumer has to be silent before its entries are taken over.
        ahead: gives how many entries of a stream are to be had at once.
        clear: to be set while nothing waits that was delivered before, so that what is new is read after that.
        inbox: where batches go, one at a time.
        notices: who tells of entries that were removed from a stream before they were handled.
        observers: who is told.
    """

    def __init__(
        self,
        shares: Sequence[Share],
        keeper: Acknowledger,
        claim_after: float,
        ahead: Callable[[], int],
        clear: asyncio.Event,
        inbox: Inbox,
        *,
        notices: Notices,
        observers: Observers,
    ) -> None:
        self._shares = shares
        self._keeper = keeper
        self._idle_ms = max(1, round(claim_after * 1000))
        self._every = min(LOOK_EVERY, claim_after / 6)
        self._remove_ms = round(max(REMOVE_AFTER, 2 * claim_after) * 1000)
        self._ahead = ahead
        self._most = FIRST_ENTRIES
        self._inbox = inbox
        self._notices = notices
        self._observers = observers
        self._log_taken = Occasionally()
        self._sweep_at = monotonic() + SWEEP_EVERY
        self._clear = clear
        self._out = False

    async def begin(self) -> None:
        """The reader joins the group; until then there is nothing to do."""

    @property
    def condition(self) -> Condition | None:
        """The connection is the keeper's."""
        return None

    async def disconnect(self) -> None:
        """The connection is the keeper's."""

    async def run(self) -> None:
        """See to it every now and then, and whenever there may be something to hand out, until cancelled."""
        while True:
            self._keeper.freed.clear()
            with contextlib.suppress(Disconnected, Refusal):  # which the keeper gets over
                for share in self._shares:
                    if share.joined:
                        await self._see_to(share)
                await self._sweep()
                if not self._out:
                    self._clear.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._keeper.freed.wait()

    async def _see_to(self, share: Share) -> None:
        try:
            await self._renew(share)
            while not self._out and (await self._hand_out(share) or await self._look(share)):
                pass
        except Refusal as refusal:
            if refusal.code != "NOGROUP":
                raise
            share.joined = False  # the reader makes the group again

    async def _renew(self, share: Share) -> None:
        for ids in share.renewals(monotonic()):
            reply = await self._keeper.ask(share.member.renew(ids), answers.owners)
            for id, owner in share.renewed(ids, reply, monotonic()).items():
                self._report_taken(share, id.decode(), owner.decode("utf-8", "replace"))

    async def _look(self, share: Share) -> bool:
        """Look a bit further for what others left. Gives whether there was something."""
        for _ in range(LOOKS):
            asked = share.member.take_over(self._idle_ms, share.place, self._most)
            new, gone = share.looked(await self._keeper.ask(asked, answers.taken))
            self._lose(share, gone)
            if new:
                logger.info(
                    "taken_over: %d entries of %r, from %s on", len(new), share.stream, new[0].decode()
                )
                pending = await self._keeper.ask(share.member.pending(new[0], new[-1]), answers.deliveries)
                share.found(pending, monotonic(), among=new)
                return True
            if share.place == FIRST:
                break
        return False

    async def _hand_out(self, share: Share) -> bool:
        """Have some of what was found handed out, or given up. Gives whether there was any."""
        fetch = share.next_fetch(self._most)
        if fetch is None:
            return False
        fetched = await self._keeper.ask(share.member.fetch(fetch.ids, fetch.deliveries), answers.fetched)
        entries, gone = share.fetched(fetch, fetched, monotonic())
        self._lose(share, gone)
        if entries:
            parts = [self._part(share, fetch, entry) for entry in entries]
            share.reads_ahead(*(part.entries for part in parts))
            self._out = True
            self._clear.clear()
            self._inbox.put_nowait(Batch([*parts], self._proceed))
        return True

    def _part(self, share: Share, fetch: Fetch, entry: Entry) -> Part:
        """One entry by itself: that it is handed out is counted, or it is not to be handed out any more."""
        id, _ = entry
        alone = Entries.of([entry])
        if fetch.spent:
            return Part(
                share, self._keeper, alone, DeliveredTooOften(share.stream, id.decode(), fetch.deliveries)
            )
        return Part(share, Redelivery(self._keeper, share, id), alone)

    def _proceed(self, waited: float) -> None:
        """The batch was taken from the inbox, by somebody who had to wait for it or not: get the next."""
        self._most = min(self._most * 2, SHORT_ENTRIES) if waited else max(self._ahead(), FIRST_ENTRIES)
        self._out = False
        self._keeper.freed.set()

    def _lose(self, share: Share, ids: list[bytes]) -> None:
        if ids:
            share.lose(ids)
            self._notices.lost(share.stream, [id.decode() for id in ids])
            self._keeper.write()

    async def _sweep(self) -> None:
        """Remove consumers that are gone for good."""
        if monotonic() < self._sweep_at:
            return
        self._log_taken = Occasionally()
        self._sweep_at = monotonic() + SWEEP_EVERY
        for share in self._shares:
            if not share.joined:
                continue
            if removed := await self._keeper.ask(share.member.sweep(self._remove_ms), answers.names):
                logger.info("consumers_removed: %r of %r had nothing and were silent", removed, share.stream)

    def _report_taken(self, share: Share, id: str, owner: str) -> None:
        details = LeaseLostDetails(share.stream, share.member.group, id, owner)
        if self._log_taken():
            logger.warning(
                "lease_lost: entry %s of %r was taken over by %r: this consumer was silent for too long",
                id,
                share.stream,
                owner,
            )
        self._observers.notify("lease_lost", details)
