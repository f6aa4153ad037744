"""Storing cursors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from . import answers
from .attach import InRedis
from .cursor import Cursor, stored_cursor
from .errors import CursorCorrupt
from .hooks import CursorNotSavedDetails, LeaseLostDetails, Occasionally, logger
from .keeper import Fenced, Passage
from .link import Channel, Link, Reply
from .moves import ANSWER_ALL
from .policies import Commit
from .posting import Posting
from .refusals import Refusal
from .resp import command

# Commits that follow each other within so many seconds are a rapid row. Slower handlers would not notice what an answer
# costs, and with one for each commit they hear at once of another subscriber of their name.
RAPID: Final = 0.0001

# In such a row, one in so many seconds has an answer, which is for all before it; and all have one where so many
# are unanswered.
ANSWER_EVERY: Final = 0.01
WHISPERS: Final = 500


class Committer(Posting[Cursor]):
    """Stores the cursors of the streams of one server, by the policy.

    Args:
        link: where to connect to.
        cursors: what is stored.
        policy, settle, settings: as of `Posting`.
        fenced: told that a commit was refused for want of the lease.
    """

    def __init__(
        self,
        link: Link,
        cursors: Sequence[Cursor],
        policy: Commit,
        settle: Callable[[], bool],
        fenced: Callable[[], None],
        **settings: Any,
    ) -> None:
        super().__init__(link, cursors, policy, settle, **settings)
        self._script_known = False
        self._fenced = fenced
        self._log_conflict = Occasionally()
        # Whether the server lets answers be left out, whether it knows the script for that, and the end of a row.
        self._may_be_quiet = False
        self._quiet = False
        self._answer_due: asyncio.TimerHandle | None = None
        self._written = 0.0

    def write(self) -> None:
        """Store what is finished. In a rapid row of commits most have no answer: it would cost more than the commit."""
        now = monotonic()
        rapid, self._written = now - self._written < RAPID, now
        if not rapid or self._answer_due is None or not self._quiet or self._unanswered >= WHISPERS:
            self._write_aloud()
            return
        payload = b""
        for cursor in self._tracks:
            if cursor.due:
                payload += cursor.whisper()
        if payload:
            assert self._channel is not None  # there has been an answered commit
            self._pending = 0
            self._unanswered += 1
            self._whispers += 1
            if self._whispers == 1:
                self._channel.listen()  # the kernel collects nothing while an answer is due
            self._channel.whisper(payload)
            self._wrote()

    def _write_aloud(self) -> None:
        if self._quiet and self._answer_due is None and all(cursor.can_whisper for cursor in self._tracks):
            self._answer_due = self._loop.call_later(ANSWER_EVERY, self._want_answer)
        super().write()

    def _want_answer(self) -> None:
        self._answer_due = None
        if self._whispers:
            self._write_aloud()

    def _due(self) -> list[Cursor]:
        return [cursor for cursor in self._tracks if cursor.due or cursor.whispered]

    def store(self) -> None:
        """Store all that is handled, whatever the policy."""
        self._settle_finished()
        self._write_aloud()

    async def disconnect(self) -> None:
        """End the connection."""
        if self._answer_due is not None:
            self._answer_due.cancel()
        await super().disconnect()

    async def storing(self) -> InRedis:
        """Where the cursors are. Raises what `channel` does."""
        return InRedis(await self.channel(), self._line.where)

    def _finish(self, track: Cursor, ids: Sequence[bytes]) -> None:
        track.finish(ids[-1], len(ids))

    async def passing(self, track: Cursor, id: bytes) -> Passage:
        """The commit of an entry, to go with its dead letter. Not done where somebody else has passed the entry.

        Waits until all that is finished is stored.

        Raises:
            Fenced: another subscriber of the name reads now.
        """
        await self.flush(None)
        if self._over:
            raise Fenced

        def answered(reply: Reply, again: bool) -> bool:
            done, found = track.stepped(reply, again=again)
            if found is not None:
                self._report_conflict(track, found)
            return done

        return Passage(track.step(id), answered)

    def go_back(self, cursor: Cursor, id: str) -> None:
        """The stream is another one, and reading goes on behind this ID: store that."""
        cursor.go_back(id)
        self.write()

    def _command(self, track: Cursor) -> bytes:
        by_text, self._script_known = not self._script_known, True
        return track.commit(by_text=by_text)

    def _take(self, track: Cursor, reply: Reply) -> None:
        reply = answers.moved(reply)
        found = track.answered(reply)
        if isinstance(reply, Refusal):
            if reply.code == "NOSCRIPT":
                self._script_known, self._held_back = False, True
            else:
                self._suffer(reply)
                if reply.code == "FENCED":
                    self._fenced()
        elif found is not None:
            self._report_conflict(track, found)
        if reply is not None:
            self._quiet = False  # perhaps the script was not known any more
        elif self._may_be_quiet and not self._quiet:
            self._begin_quiet()
        if track.goes_back:
            self._held_back = True

    async def _prepare(self, channel: Channel) -> None:
        self._script_known = False
        [said] = await channel.exchange(ANSWER_ALL, 1)
        self._may_be_quiet = self._policy.every_turn and not isinstance(said, Refusal)
        self._quiet = False
        self._unanswered = self._whispers = 0
        cursors = [cursor for cursor in self._tracks if cursor.handled]
        if not cursors:
            return
        replies = await channel.exchange(
            b"".join(command("GET", cursor.key) for cursor in cursors), len(cursors)
        )
        for cursor, reply in zip(cursors, replies, strict=True):
            try:
                found = cursor.reattach(stored_cursor(cursor.key, reply))
            except CursorCorrupt:
                cursor.reattach(None)  # the next commit will be refused, and that reported
                continue
            if found is not None:
                self._report_conflict(cursor, found)

    def _begin_quiet(self) -> None:
        def known(replies: list[Reply], ended: str) -> None:
            self._quiet = self._may_be_quiet = replies == [None]

        assert self._channel is not None
        self._may_be_quiet = False  # not asked again until that is answered
        self._channel.post(self._tracks[0].make_known(), 1, known)

    # --- reports ---

    def _report_not_saved(self) -> None:
        for cursor in self._tracks:
            if not cursor.settled:
                details = CursorNotSavedDetails(cursor.stream, cursor.key, cursor.handled, str(self._trouble))
                logger.warning("cursor_not_saved: %r at %s: %s", details.key, details.id, details.reason)
                self._observers.notify("cursor_not_saved", details)

    def report_unsaved(self) -> None:
        for cursor in self._tracks:
            if not cursor.settled:
                logger.error("cursor_not_saved: %r at %s, on closing", cursor.key, cursor.handled)

    def _report_conflict(self, cursor: Cursor, found: str) -> None:
        details = LeaseLostDetails(cursor.stream, cursor.key, cursor.handled, found)
        if self._log_conflict():
            logger.warning(
                "lease_lost: %r was moved by somebody else, to %s: is there another subscriber of this name?",
                details.key,
                found or "nothing",
            )
        self._observers.notify("lease_lost", details)
