"""The connection over which is stored what is handled, and when that is done.

It is written without waiting for the answers: storing that waited behind a blocked read, or for the last answer, would
set the pace of the handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from .health import Condition
from .hooks import Observers
from .intake import Entries
from .line import TROUBLE, Line, Trouble
from .link import Channel, Disconnected, Link, Reply
from .policies import Backoff, Commit

# Nobody waits for these answers, so they are read together: when so many are due, or after so long (in seconds).
ANSWERS_TOGETHER: Final = 128
ANSWERS_WITHIN: Final = 0.01

# With more unanswered writes, the next wait for answers; a thousand cover any distance.
MOST_UNANSWERED: Final = 1000

# Where handlers await, so many writes follow each other without a look at whether they still do: that look costs about
# as much as a write, and where they do not any more, so many are stored one by one.
UNWATCHED: Final = 15


class Kept(Protocol):
    """A `Track`, and what of it is stored."""

    @property
    def stream(self) -> str:
        """The key of the stream."""
        ...

    @property
    def key(self) -> str:
        """The key that this is stored in."""
        ...

    @property
    def due(self) -> bool:
        """Whether something is handled that was not sent to be stored."""
        ...

    @property
    def settled(self) -> bool:
        """Whether what is handled is stored."""
        ...


T = TypeVar("T", bound=Kept)


class Keeping(ABC, Generic[T]):
    """Stores how far the streams of one server are handled, by the policy. A `Keeper`.

    Args:
        link: where to connect to.
        tracks: the streams.
        policy: when.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent while an answer is due.
        observers: who is told.
        settle: has what is handled so far passed to `finished`; gives whether there is more to come of it.

    Attributes:
        turned: whether the event loop has turned since the last write, or since the subscriber itself gave it a turn:
            then a handler has awaited something, and the next finished entry is stored at once.
    """

    def __init__(
        self,
        link: Link,
        tracks: Sequence[T],
        policy: Commit,
        settle: Callable[[], bool],
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
    ) -> None:
        self._tracks = tracks
        self._policy = policy
        self._observers = observers
        self._line = Line(
            link,
            tracks[0].key,
            stream=",".join(track.stream for track in tracks),
            what="commit",
            backoff=backoff,
            patience=patience,
            observers=observers,
            prepare=self._prepare,
        )
        self._connecting = asyncio.Lock()
        self._channel: Channel | None = None
        self._unanswered = 0
        # Whether answers are left where they are for a while, and how many writes the next answer will be for.
        self._answers_wait = True
        self._whispers = 0
        self._most_unanswered = max(1, MOST_UNANSWERED // len(tracks))
        self._trouble: Trouble | None = None
        self._troubled = asyncio.Event()
        self._recovered = asyncio.Event()
        self._settled = asyncio.Event()
        self._over = False
        self._settle_finished = settle
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        # The tracks of each write that is to be answered, and for how many writes that answer is.
        self._asked: deque[tuple[Sequence[T], int]] = deque()
        # Whether something has to be written as soon as all answers are there.
        self._held_back = False
        # And whether the next turn of the loop is looked out for.
        self.turned: bool = policy.every_turn
        self._looking_out = False
        self._unwatched = 0
        self._loop = asyncio.get_running_loop()

    @property
    def condition(self) -> Condition | None:
        """How the connection does; None where all that is handled is stored."""
        return None if all(track.settled for track in self._tracks) else self._line.condition

    async def channel(self) -> Channel:
        """The connection, for what else is to be asked of this server. Raises what `Line.channel` does."""
        async with self._connecting:
            self._channel = await self._line.channel()
            return self._channel

    # --- what ---

    @abstractmethod
    def _finish(self, track: T, entries: Entries) -> None:
        """These are handled or passed over."""

    @abstractmethod
    def _command(self, track: T) -> bytes:
        """The command that stores what is handled of a track."""

    @abstractmethod
    def _take(self, track: T, reply: Reply) -> None:
        """The reply to the oldest unanswered command of a track."""

    @abstractmethod
    async def _prepare(self, channel: Channel) -> None:
        """On a new connection, see what became of what was not answered on the last one."""

    @abstractmethod
    def _report_not_saved(self) -> None:
        """What is handled cannot be stored at the moment."""

    @abstractmethod
    def report_unsaved(self) -> None:
        """What is handled could not be stored to the end."""

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

    def finished(self, track: T, entries: Entries) -> None:
        """The entries are handled or passed over: store that now or soon."""
        self._finish(track, entries)
        self._pending += len(entries)
        if self.turned or self._pending >= self._policy.events:
            self.write()

    def _wrote(self) -> None:
        """Look out for the next turn of the loop. Handlers that have awaited something will do so again, mostly."""
        if self.turned and self._unwatched:
            self._unwatched -= 1
        else:
            self._unwatched = UNWATCHED
            self.look_out()

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
        due = self._due()
        if not due:
            return
        commands = b"".join([self._command(track) for track in due])
        self._unanswered += 1
        if self._answers_wait and self._unanswered == 1:
            self._channel.listen_later(ANSWERS_WITHIN)
        elif self._unanswered % ANSWERS_TOGETHER == 0:
            self._channel.listen()
        self._asked.append((due, 1 + self._whispers))
        self._whispers = 0
        self._channel.post(commands, len(due), self._answered)
        self._wrote()

    def _due(self) -> list[T]:
        """Of which tracks something is to be stored."""
        return [track for track in self._tracks if track.due]

    def _answered(self, replies: list[Reply], ended: str) -> None:
        tracks, writes = self._asked.popleft()
        self._unanswered -= writes
        if ended:
            self._suffer(Disconnected(ended, replies))
            return
        for track, reply in zip(tracks, replies, strict=True):
            self._take(track, reply)
        if self._unanswered:
            return
        if self._trouble is None:
            self._line.worked()
            if self._held_back:
                self.write()
        self._settle()

    def _settle(self) -> None:
        if all(track.settled for track in self._tracks):
            self._settled.set()

    def _suffer(self, trouble: Trouble) -> None:
        if self._trouble is None:
            self._trouble = trouble
            self._recovered.clear()
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
                    await self.channel()
                    self._trouble = None
                except TROUBLE as trouble:
                    self._trouble = trouble
                    self._report_not_saved()
            self._troubled.clear()
            self._recovered.set()
            self.write()
            self._settle()

    async def recovered(self) -> None:
        """Wait until `run` has got over the trouble, if there is one."""
        if self._trouble is not None:
            await self._recovered.wait()

    async def flush(self, timeout: float | None) -> None:
        """Store what is handled, and wait until it is stored, for so many seconds at most, or until all is over.

        Raises:
            TimeoutError: it could not be stored in this time.
        """
        self.store()
        if self._over or all(track.settled for track in self._tracks):
            return
        self._settled.clear()
        assert self._channel is not None  # there was one when something was handed out
        self._channel.listen()
        async with asyncio.timeout(timeout):
            await self._settled.wait()

    def store_soon(self) -> None:
        """Store what is handled in the next turn of the loop, if there is one; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.store)

    async def disconnect(self) -> None:
        """End the connection, of a keeper that does not run any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._over = True
        self._settled.set()  # for who waits for what will not be stored any more
        await self._line.disconnect()

    def close(self) -> None:
        """Store what is handled; waits between attempts are short from now on."""
        self._line.closing.set()
        self.store()

    async def conclude(self, timeout: float) -> None:
        """After `close`, and when nothing is read any more: do what else is to be done at the end.

        Raises:
            TimeoutError: what is handled could not be stored in this time.
        """
        await self.flush(timeout)
