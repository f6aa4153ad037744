"""When what is handled is stored: by the policy, at turns of the event loop, and at the end."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from .health import Condition
from .hooks import Observers
from .policies import Commit


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

# Where handlers await, so many writes follow each other without a look at whether they still do: that look costs about
# as much as a write, and where they do not any more, so many are stored one by one.
UNWATCHED: Final = 15


class Keeping(ABC, Generic[T]):
    """Stores how far some streams are handled, by the policy. A `Keeper`.

    Args:
        tracks: the streams.
        policy: when.
        observers: who is told.
        settle: has what is handled so far passed to `finished`; gives whether there is more to come of it.

    Attributes:
        turned: whether the event loop has turned since the last write, or since the subscriber itself gave it a turn:
            then a handler has awaited something, and the next finished entry is stored at once.
    """

    def __init__(
        self, tracks: Sequence[T], policy: Commit, settle: Callable[[], bool], observers: Observers
    ) -> None:
        self._tracks = tracks
        self._policy = policy
        self._observers = observers
        self._settled = asyncio.Event()
        self._over = False
        self._settle_finished = settle
        self._pending = 0
        self._timer: asyncio.TimerHandle | None = None
        self.turned: bool = policy.every_turn
        # Whether the next turn of the loop is looked out for.
        self._looking_out = False
        self._unwatched = 0
        self._loop = asyncio.get_running_loop()

    # --- what, and how ---

    @abstractmethod
    def _finish(self, track: T, ids: Sequence[bytes]) -> None:
        """The entries with these IDs are handled or passed over."""

    @abstractmethod
    def write(self) -> None:
        """Store what is finished, without waiting for the answer."""

    @abstractmethod
    async def run(self) -> None:
        """Do what that leaves to be done in the background, until cancelled."""

    @property
    @abstractmethod
    def condition(self) -> Condition | None:
        """How storing goes; None where all that is handled is stored."""

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

    def finished(self, track: T, ids: Sequence[bytes]) -> None:
        """The entries with these IDs are handled or passed over: store that now or soon."""
        self._finish(track, ids)
        self._pending += len(ids)
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

    def _settle(self) -> None:
        if all(track.settled for track in self._tracks):
            self._settled.set()

    async def flush(self, timeout: float | None) -> None:
        """Store what is handled, and wait until it is stored, for so many seconds at most, or until all is over.

        Raises:
            TimeoutError: it could not be stored in this time.
        """
        self.store()
        if self._over or all(track.settled for track in self._tracks):
            return
        self._settled.clear()
        self._hurry()
        async with asyncio.timeout(timeout):
            await self._settled.wait()

    @abstractmethod
    def _hurry(self) -> None:
        """Somebody waits for what is written to be stored."""

    def store_soon(self) -> None:
        """Store what is handled in the next turn of the loop, if there is one; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.store)

    async def disconnect(self) -> None:
        """End what it has open, when it does not run any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._over = True
        self._settled.set()  # for who waits for what will not be stored any more

    def close(self) -> None:
        """Store what is handled; waits between attempts are short from now on."""
        self.store()

    async def conclude(self, timeout: float) -> None:
        """After `close`, and when nothing is read any more: do what else is to be done at the end.

        Raises:
            TimeoutError: what is handled could not be stored in this time.
        """
        await self.flush(timeout)
