"""Storing cursors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import answers
from .cursor import Cursor, stored_cursor
from .deadletters import Step
from .errors import CursorCorrupt
from .hooks import CursorNotSavedDetails, LeaseLostDetails, Occasionally, logger
from .intake import Entries, Fenced
from .keeping import Keeping
from .link import Channel, Link, Reply
from .policies import Commit
from .refusals import Refusal
from .resp import command


class Committer(Keeping[Cursor]):
    """Stores the cursors of the streams of one server, by the policy.

    Args:
        link: where to connect to.
        cursors: what is stored.
        policy, settle, settings: as of `Keeping`.
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

    def _finish(self, track: Cursor, entries: Entries) -> None:
        track.finish(entries[-1][0], len(entries))

    async def passing(self, track: Cursor, id: bytes) -> Step:
        """The commit of an entry, to go with its dead letter. Waits until all that is finished is stored.

        Raises:
            Fenced: another subscriber of the name reads now.
        """
        await self.flush(None)
        if self._over:
            raise Fenced
        return track.step(id)

    def passed(self, track: Cursor, reply: Reply, *, again: bool) -> bool:
        """Take the reply to that. Gives whether it was done: not where somebody else has passed the entry."""
        done, found = track.stepped(reply, again=again)
        if found is not None:
            self._report_conflict(track, found)
        return done

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
        if track.goes_back:
            self._held_back = True

    async def _prepare(self, channel: Channel) -> None:
        self._script_known = False
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
