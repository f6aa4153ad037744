"""Joining a consumer group, making it where it is not, and reading what is new."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from . import answers
from .acks import Acknowledger
from .cursor import Start
from .entries import Entries
from .errors import ConfigError
from .hooks import ResetDetails, logger
from .inbox import Inbox, Part
from .link import Channel, Disconnected, Link, Reply
from .notices import Notices
from .pending import Share
from .reader import BLOCK_MS, ReadAhead
from .refusals import Refusal, refuse_access
from .resp import command
from .standing import group_of, groups

# Entries that one consumer has are kept from the others. So it reads ahead what its handlers take about so long for,
# in seconds.
AHEAD: Final = 0.5

# What a read says where the group, or the stream with it, is gone: by the version, and by when that was.
_GONE: Final = ("NOGROUP", "UNBLOCKED")


class GroupReader(ReadAhead):
    """Reads what nobody of the group had yet.

    Args:
        link, inbox, settings: as of `ReadAhead`.
        shares: what is held of the streams.
        keeper: who acknowledges it.
        start: where a new group begins.
        clear: set while nothing waits that was delivered before; only then is read on.
        notices: who tells that a group is gone.
    """

    def __init__(
        self,
        link: Link,
        shares: Sequence[Share],
        keeper: Acknowledger,
        start: Start,
        clear: asyncio.Event,
        notices: Notices,
        inbox: Inbox,
        **settings: Any,
    ) -> None:
        super().__init__(link, [share.stream for share in shares], inbox, first=1, **settings)
        self._shares = {share.stream.encode(): share for share in shares}
        self._member = shares[0].member
        self._keeper = keeper
        self._start = start
        self._clear = clear
        self._notices = notices
        self._reattached: Channel | None = None
        self._before = 0

    def ahead(self) -> int:
        """How many entries of a stream are to be had at once."""
        return self._sizing.entries

    async def _attach(self, channel: Channel) -> None:
        if self._reattached is None:
            await self._keeper.channel()
            await self._join(channel)
            return
        while channel is not self._reattached or not all(share.joined for share in self._shares.values()):
            await self._keeper.recovered()
            with contextlib.suppress(Disconnected):  # of the keeper's connection, which it makes again
                await self._join(channel)

    async def _join(self, channel: Channel) -> None:
        for share in self._shares.values():
            if not share.joined:
                await join(share, self._start, self._keeper, self._notices, self.line.where)
        if channel is not self._reattached:
            # What was on its way over the last connection is pending, and here it is not. Nothing is on its way now.
            for share in self._shares.values():
                try:
                    pending = await self._keeper.ask(share.member.pending(), answers.deliveries)
                except Refusal as refusal:
                    if refusal.code != "NOGROUP":
                        raise
                    share.joined = False  # the server has lost it, and the next attempt makes it again
                    return
                share.strayed(pending, monotonic(), undelivered=self._reattached is not None)
            self._reattached = channel
            self._keeper.freed.set()

    async def _fetch(self, channel: Channel) -> None:
        await self._clear.wait()
        await self._keeper.caught_up()
        before = channel.received
        await channel.exchange_then(
            self._command(), 1, lambda replies: self._take(replies[0], channel.received - before)
        )

    def _take(self, reply: Reply, size: int) -> None:
        """Hand over what was read."""
        if isinstance(reply, Refusal) and reply.code in _GONE:
            for share in self._shares.values():
                share.joined = False
            return
        found = {
            stream: new for stream, new in answers.read(reply, self._shares, "XREADGROUP").items() if new
        }
        if found:
            counts = [len(entries) for entries in found.values()]
            self._came = counts, size, 0
            self._hand_over([self._part(self._shares[stream], entries) for stream, entries in found.items()])

    def _command(self) -> bytes:
        member, news = self._member, (">",) * len(self._streams)
        group = ("GROUP", member.group, member.consumer)
        return command(
            "XREADGROUP",
            *group,
            "COUNT",
            self._sizing.entries,
            "BLOCK",
            BLOCK_MS,
            "STREAMS",
            *self._streams,
            *news,
        )

    def _part(self, share: Share, entries: Entries) -> Part:
        share.took(entries, monotonic())
        share.reads_ahead(entries)
        return Part(share, self._keeper, entries)

    def _learn(self, counts: list[int], size: int, shown: int) -> None:
        super()._learn(counts, size, shown)
        if not self._waited:
            ahead = self._before * AHEAD / max(self._handling, 1e-6)
            self._sizing.limit(round(ahead / len(self._streams)))
        self._before = sum(counts)


async def join(share: Share, start: Start, keeper: Acknowledger, notices: Notices, where: str) -> None:
    """Find the group of a stream, or make it.

    Args:
        share: what is held of the stream.
        start: where a new group begins.
        keeper: whose connection is used.
        notices: who tells that a group is gone.
        where: the server, for messages.

    Raises:
        AccessRefused, ConfigError: the user may not, or the key holds something else than a stream.
        Disconnected, Refusal: what may pass.
    """
    member = share.member
    kind, info = await keeper.asked(command("TYPE", share.stream), command("XINFO", "STREAM", share.stream))
    _refuse_access(kind, where, f"TYPE on {share.stream!r}")
    _refuse_access(info, where, f"XINFO STREAM on {share.stream!r}")
    if (held := keeper.understood(answers.kind, kind)) not in ("stream", "none"):
        raise ConfigError(
            f"{where}: the key {share.stream!r} holds a {held}, not a stream; choose another stream"
        )
    last = keeper.understood(answers.stream, info).last_generated_id.decode()
    begins = share.begins(start, last, datetime.now(UTC))
    [made] = await keeper.asked(member.create(begins))
    _refuse_access(made, where, f"XGROUP CREATE on {share.stream!r}")
    if not isinstance(made, Refusal) or made.code != "BUSYGROUP":
        keeper.understood(answers.done, made)
    if not share.position:
        await _try_rights(share, keeper, where)
    elif not isinstance(made, Refusal):
        logger.warning("group_made_again: %r of %r, behind %s", member.group, share.stream, begins)
        notices.tell(ResetDetails(share.stream, share.position, last, begins))
    share.join(group_of(await keeper.ask(groups(share), answers.groups), share).last_delivered_id.decode())


async def _try_rights(share: Share, keeper: Acknowledger, where: str) -> None:
    trials = share.member.trials()
    for what, reply in zip(trials, await keeper.asked(*trials.values()), strict=True):
        _refuse_access(reply, where, f"{what} on {share.stream!r}")


_RIGHTS = (
    "a group needs the rights +xreadgroup +xgroup +xack +xautoclaim +xclaim +xpending +xinfo +type +eval "
    "on the stream's key"
)


def _refuse_access(reply: Reply, where: str, what: str) -> None:
    refuse_access(reply, where, what, _RIGHTS)
