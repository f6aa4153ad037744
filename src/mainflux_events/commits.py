"""The connection that stores cursors, and when it does.

Commits are written without waiting for the answers: a commit that waited behind a blocked read, or for the last
one's answer, would set the pace of the handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .cursor import Cursor, stored_cursor
from .deadletters import Step
from .errors import CursorCorrupt
from .hooks import CursorNotSavedDetails, LeaseLostDetails, Observers, Occasionally, logger
from .intake import Entries
from .line import TROUBLE, Line, Trouble
from .link import Channel, Disconnected, Link, Reply
from .policies import Backoff, Commit
from .refusals import Refusal
from .resp import command

# Nobody waits for the answers of commits, so they are read together: when so many are due, or after so long (in
# seconds).
ANSWERS_TOGETHER: Final = 128
ANSWERS_WITHIN: Final = 0.01

# With more unanswered commits, the next wait for answers; a thousand cover any distance.
MOST_UNANSWERED: Final = 1000


class Committer:
    """Stores the cursors of the streams of one server, by the policy.

    Args:
        link: where to connect to.
        cursors: what is stored.
        policy: when.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent while an answer is due.
        observers: who is told.
        settle: has what is handled so far passed to `finished`; gives whether there is more to come of it.

    Attributes:
        turned: whether the event loop has turned since the last commit, or since the subscriber itself gave it a turn:
            then a handler has awaited something, and the next finished entry is stored at once.
    """

    def __init__(
        self,
        link: Link,
        cursors: Sequence[Cursor],
        policy: Commit,
        settle: Callable[[], bool],
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
    ) -> None:
        self._cursors = cursors
        self._policy = policy
        self._observers = observers
        self._line = Line(
            link,
            cursors[0].key,
            stream=",".join(cursor.stream for cursor in cursors),
            what="commit",
            backoff=backoff,
            patience=patience,
            observers=observers,
            prepare=self._prepare,
        )
        self._channel: Channel | None = None
        self._script_known = False
        self._unanswered = 0
        self._most_unanswered = max(1, MOST_UNANSWERED // len(cursors))
        self._trouble: Trouble | None = None
        self._troubled = asyncio.Event()
        self._settled = asyncio.Event()
        self._settle_finished = settle
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        # The cursors of each unanswered write.
        self._asked: deque[Sequence[Cursor]] = deque()
        # Whether a commit has to be written as soon as all answers are there.
        self._held_back = False
        # And whether the next turn of the loop is looked out for.
        self.turned: bool = policy.every_turn
        self._looking_out = False
        self._log_conflict = Occasionally()
        self._loop = asyncio.get_running_loop()

    async def channel(self) -> Channel:
        """The connection, for what else is to be asked of this server. Raises what `Line.channel` does."""
        self._channel = await self._line.channel()
        return self._channel

    # --- when ---

    def room(self) -> int:
        """How many more entries may be finished until they are stored."""
        return max(1, self._policy.events - self._pending)

    def begin(self) -> None:
        """Entries are handed out: what of them is finished in time is stored in time."""
        if self._timer is None and not self._policy.every_turn:
            self._timer = self._loop.call_later(self._policy.seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        more = self._settle_finished()
        self.write()
        if more:
            self.begin()

    def store(self) -> None:
        """Store all that is handled, whatever the policy."""
        self._settle_finished()
        self.write()

    def finished(self, cursor: Cursor, entries: Entries) -> None:
        """The entries are handled or passed over: store that now or soon."""
        cursor.finish(entries[-1][0], len(entries))
        self._pending += len(entries)
        if self.turned or self._pending >= self._policy.events:
            self.write()

    async def passing(self, track: Cursor, id: bytes) -> Step:
        """The commit of an entry, to go with its dead letter. Waits until all that is finished is stored."""
        await self.flush(None)
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

    def look_out(self) -> None:
        """From now on, that the event loop has turned means that a handler has awaited something."""
        if self._policy.every_turn:
            self.turned = False
            if not self._looking_out:
                self._looking_out = True
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._looking_out = False
        self._settle_finished()
        if self._pending:
            self.write()
        self.turned = True

    # --- how ---

    def write(self) -> None:
        """Store what is finished, without waiting for the answer."""
        if self._trouble is not None or self._channel is None or self._unanswered >= self._most_unanswered:
            self._held_back = True
            return  # the answers, or the end of the trouble, lead here again
        self._pending = 0
        self._held_back = False
        due = [cursor for cursor in self._cursors if cursor.due]
        if not due:
            return
        commands = b"".join([cursor.commit(by_text=not self._script_known) for cursor in due])
        self._script_known = True
        self._unanswered += 1
        if self._unanswered == 1:
            self._channel.listen_later(ANSWERS_WITHIN)
        elif self._unanswered % ANSWERS_TOGETHER == 0:
            self._channel.listen()
        self._asked.append(due)
        self._channel.post(commands, len(due), self._answered)
        self.look_out()

    def _answered(self, replies: list[Reply], ended: str) -> None:
        cursors = self._asked.popleft()
        self._unanswered -= 1
        if ended:
            self._suffer(Disconnected(ended, replies))
            return
        for cursor, reply in zip(cursors, replies, strict=True):
            found = cursor.answered(reply)
            if isinstance(reply, Refusal):
                if reply.code == "NOSCRIPT":
                    self._script_known, self._held_back = False, True
                else:
                    self._suffer(reply)
            elif found is not None:
                self._report_conflict(cursor, found)
        if self._unanswered:
            return
        if self._trouble is None:
            self._line.worked()
            if self._held_back or any(cursor.goes_back for cursor in self._cursors):
                self.write()
        self._settle()

    def _settle(self) -> None:
        if all(cursor.settled for cursor in self._cursors):
            self._settled.set()

    def _suffer(self, trouble: Trouble) -> None:
        if self._trouble is None:
            self._trouble = trouble
            self._troubled.set()

    async def run(self) -> None:
        """Get over troubles, as they come, until cancelled."""
        while True:
            await self._troubled.wait()
            if not isinstance(self._trouble, Disconnected):
                self._report_not_saved()
            while self._trouble is not None:
                await self._line.rest(self._trouble)
                try:
                    self._channel = await self._line.channel()
                    self._trouble = None
                except TROUBLE as trouble:
                    self._trouble = trouble
                    self._report_not_saved()
            self._troubled.clear()
            self.write()
            self._settle()

    async def _prepare(self, channel: Channel) -> None:
        """On a new connection, see what became of the commits that were not answered on the last one."""
        self._script_known = False
        cursors = [cursor for cursor in self._cursors if cursor.handled]
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

    async def flush(self, timeout: float | None) -> None:
        """Store what is handled, and wait until it is stored, for so many seconds at most.

        Raises:
            TimeoutError: it could not be stored in this time.
        """
        self.store()
        if all(cursor.settled for cursor in self._cursors):
            return
        self._settled.clear()
        assert self._channel is not None  # there was one when something was attached
        self._channel.listen()
        async with asyncio.timeout(timeout):
            await self._settled.wait()

    def store_soon(self) -> None:
        """Store what is handled in the next turn of the loop, if there is one; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.store)

    async def disconnect(self) -> None:
        """End the connection, of a committer that does not run any more."""
        if self._timer is not None:
            self._timer.cancel()
        await self._line.disconnect()

    def close(self) -> None:
        """Store what is handled; waits between attempts are short from now on."""
        self._line.closing.set()
        self.store()

    # --- reports ---

    def _report_not_saved(self) -> None:
        for cursor in self._cursors:
            if not cursor.settled:
                details = CursorNotSavedDetails(cursor.stream, cursor.key, cursor.handled, str(self._trouble))
                logger.warning("cursor_not_saved: %r at %s: %s", details.key, details.id, details.reason)
                self._observers.notify("cursor_not_saved", details)

    def _report_conflict(self, cursor: Cursor, found: str) -> None:
        details = LeaseLostDetails(cursor.stream, cursor.key, cursor.handled, found)
        if self._log_conflict():
            logger.warning(
                "lease_lost: %r was moved by somebody else, to %s: is there another subscriber of this name?",
                details.key,
                found or "nothing",
            )
        self._observers.notify("lease_lost", details)
