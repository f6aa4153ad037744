"""Storing on a Redis server: written without waiting for the answers, and got over the troubles of the connection.

Storing that waited behind a blocked read, or for the last answer, would set the pace of the handlers.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .health import Condition
from .hooks import Observers
from .keeping import Keeping, T
from .line import TROUBLE, Line, Trouble
from .link import Channel, Disconnected, Link, Reply
from .policies import Backoff, Commit

# Nobody waits for these answers, so they are read together: when so many are due, or after so long (in seconds).
ANSWERS_TOGETHER: Final = 128
ANSWERS_WITHIN: Final = 0.01

# With more unanswered writes, the next wait for answers; a thousand cover any distance.
MOST_UNANSWERED: Final = 1000


class Posting(Keeping[T]):
    """Stores on the server of the streams, on a connection of its own.

    Args:
        link: where to connect to.
        tracks, policy, settle: as of `Keeping`.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent while an answer is due.
        observers: who is told.
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
        super().__init__(tracks, policy, settle, observers)
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
        # How many writes since the last one that is to be answered are not.
        self._whispers = 0
        self._most_unanswered = max(1, MOST_UNANSWERED // len(tracks))
        self._trouble: Trouble | None = None
        self._troubled = asyncio.Event()
        self._recovered = asyncio.Event()
        # The tracks of each write that is to be answered, and for how many writes that answer is.
        self._asked: deque[tuple[Sequence[T], int]] = deque()
        # Whether something has to be written as soon as all answers are there.
        self._held_back = False

    @property
    def condition(self) -> Condition | None:
        return None if all(track.settled for track in self._tracks) else self._line.condition

    async def channel(self) -> Channel:
        """The connection, for what else is to be asked of this server. Raises what `Line.channel` does."""
        async with self._connecting:
            self._channel = await self._line.channel()
            return self._channel

    # --- what ---

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

    # --- how ---

    def write(self) -> None:
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
        if self._unanswered == 1:
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

    def _hurry(self) -> None:
        assert self._channel is not None  # there was one when something was handed out
        self._channel.listen()

    async def disconnect(self) -> None:
        await super().disconnect()
        await self._line.disconnect()

    def close(self) -> None:
        self._line.closing.set()
        super().close()
