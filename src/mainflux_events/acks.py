"""Acknowledging what a consumer of a group has handled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from . import answers
from .hooks import CursorNotSavedDetails, logger
from .keeper import Passage
from .link import Channel, Disconnected, Link, Reply
from .pending import Share
from .policies import Commit
from .posting import Posting
from .refusals import Refusal

T = TypeVar("T")

# While so many are handled and cannot be acknowledged, nothing more is read.
MOST_UNACKNOWLEDGED: Final = 10_000


class Acknowledger(Posting[Share]):
    """Acknowledges what is handled of the streams of one server, by the policy.

    Args:
        link: where to connect to.
        shares: what is held of the streams.
        policy, settle, settings: as of `Posting`.

    Attributes:
        freed: set when another entry that has to be handed out alone may be.
    """

    def __init__(
        self,
        link: Link,
        shares: Sequence[Share],
        policy: Commit,
        settle: Callable[[], bool],
        **settings: Any,
    ) -> None:
        super().__init__(link, shares, policy, settle, **settings)
        self.freed: asyncio.Event = asyncio.Event()

    def _finish(self, track: Share, ids: Sequence[bytes]) -> None:
        if track.finish(ids):
            self.freed.set()

    async def passing(self, track: Share, id: bytes) -> Passage:
        """The acknowledgement of an entry, to go with its dead letter. Not done where somebody else has sent one."""
        return Passage(track.member.passing(id), lambda reply, again: reply == 1 or again)

    def _command(self, track: Share) -> bytes:
        return track.acknowledge()

    def _take(self, track: Share, reply: Reply) -> None:
        reply = answers.acknowledged(reply)
        track.answered(reply)
        if isinstance(reply, Refusal):
            self._suffer(reply)

    async def _prepare(self, channel: Channel) -> None:
        for share in self._tracks:
            share.reattach()

    async def asked(self, *commands: bytes) -> list[Reply]:
        """What the server answers to commands. It takes them in the order of these and of the acknowledgements.

        Cancelled, it leaves the connection as it is.

        Raises:
            Disconnected: there is no connection, at the moment.
        """
        if self._channel is None or self._trouble is not None:
            raise Disconnected("there is no connection for it", [])
        answered: asyncio.Future[tuple[list[Reply], str]] = self._loop.create_future()

        def answer(replies: list[Reply], ended: str) -> None:
            if not answered.done():
                answered.set_result((replies, ended))

        self._channel.post(b"".join(commands), len(commands), answer)
        self._channel.listen()
        replies, ended = await answered
        if ended:
            trouble = Disconnected(ended, replies)
            self._suffer(trouble)
            raise trouble
        return replies

    async def ask(self, command: bytes, meaning: Callable[[Reply], T]) -> T:
        """What the answer to a command means; a refusal is raised, and got over."""
        [reply] = await self.asked(command)
        if isinstance(reply, Refusal):
            if reply.code != "NOGROUP":  # that, the reader gets over
                self._suffer(reply)
            raise reply
        found = self.understood(meaning, reply)
        self._line.worked()
        return found

    def understood(self, meaning: Callable[[Reply], T], reply: Reply) -> T:
        """What an answer means; a refusal is raised. Where it is no answer, that is got over."""
        try:
            return meaning(reply)
        except Refusal as refusal:
            if refusal.is_nonsense:
                self._suffer(refusal)
            raise

    def count(self, share: Share, id: bytes) -> None:
        """Have a delivery counted, without waiting for that: before it is handled, the kernel has the command."""
        if self._channel is not None and self._trouble is None:
            self._channel.post(share.count(id), 1, _ignore)

    async def caught_up(self) -> None:
        """Wait while too much is handled that cannot be acknowledged."""
        while sum(len(share.unacknowledged) for share in self._tracks) > MOST_UNACKNOWLEDGED:
            self._settled.clear()
            await self._settled.wait()

    async def conclude(self, timeout: float) -> None:
        await super().conclude(timeout)
        for share in self._tracks:
            if share.joined:
                try:
                    await self.ask(share.member.leave(share.deliveries()), answers.count)
                except (Disconnected, Refusal) as error:
                    logger.warning("not_given_back: %r of %r: %s", share.member.consumer, share.stream, error)
                share.joined = False

    # --- reports ---

    def _report_not_saved(self) -> None:
        for share in self._tracks:
            if not share.settled:
                last = share.unacknowledged[-1].decode()
                details = CursorNotSavedDetails(share.stream, share.member.group, last, str(self._trouble))
                logger.warning("not_acknowledged: %r, up to %s: %s", details.stream, last, details.reason)
                self._observers.notify("cursor_not_saved", details)

    def report_unsaved(self) -> None:
        for share in self._tracks:
            if not share.settled:
                logger.error(
                    "not_acknowledged: %d entries of %r, on closing", len(share.unacknowledged), share.stream
                )
            if share.joined:
                logger.warning("not_given_back: %r of %r, on closing", share.member.consumer, share.stream)


def _ignore(replies: list[Reply], ended: str) -> None:
    """What the server answers to a count says nothing."""


class Redelivery:
    """The `Keeper` of an entry that was delivered before. That it is handed out again is counted.

    Args:
        keeper: who acknowledges it.
        share, id: where it is, and which.
    """

    def __init__(self, keeper: Acknowledger, share: Share, id: bytes) -> None:
        self._keeper = keeper
        self._share = share
        self._id = id

    @property
    def turned(self) -> bool:
        return self._keeper.turned

    def room(self) -> int:
        return self._keeper.room()

    def begin(self) -> None:
        self._keeper.count(self._share, self._id)
        self._keeper.begin()

    def finished(self, track: Share, ids: Sequence[bytes]) -> None:
        self._keeper.finished(track, ids)

    async def passing(self, track: Share, id: bytes) -> Passage:
        return await self._keeper.passing(track, id)

    def look_out(self) -> None:
        self._keeper.look_out()
