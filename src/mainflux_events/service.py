"""What subscribers consist of in the background, from `start` to `aclose`: who reads, and who stores what is handled.

Their tasks belong to the subscriber, which ends them. It goes on without a server, and ends within a bound.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from asyncio import _get_running_loop
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Any, Final, Literal, Protocol

import anyio

from .errors import EventsError, LeaseLost, NotStarted, SubscriberBusy
from .health import Condition
from .hooks import logger
from .keeping import Keeping
from .lifecycle import Lifecycle
from .link import Disconnected, Link, Server, Unreachable
from .policies import Backoff
from .refusals import Refusal
from .tasks import conclude, end

# The waits between attempts to reach the server, and how long it may be silent: the reference's.
BACKOFF: Final = Backoff()
PATIENCE: Final = 5.0

# How long closing may take to store what is handled: the reference's; and for which part of that it waits for what is
# being handled, so that there is time left to store the rest and to let leases go.
CLOSE_BOUND: Final = 2.0
FINISH_PART: Final = 0.75


class Connected(Protocol):
    """Who has a connection."""

    @property
    def condition(self) -> Condition | None:
        """How it does; None where nothing is to be done over it."""
        ...

    async def disconnect(self) -> None:
        """End it, if there is one."""


class Running(Protocol):
    """Who has something to do in the background."""

    async def run(self) -> None:
        """Do it until cancelled."""


class Source(Connected, Protocol):
    """Who fetches entries."""

    async def begin(self) -> None:
        """Make the first attempt. Raises what that does."""

    async def run(self) -> None:
        """Go on until cancelled."""


class Service(Lifecycle):
    """Begun once, on one event loop, and closed within a bound.

    Args:
        what: which one, for messages.
        name: the name of its background tasks.
        redis: where to connect to.
    """

    def __init__(self, what: str, name: str, redis: Server) -> None:
        self._what = what
        self._name = name
        self._patience = PATIENCE
        self._backoff = BACKOFF
        self._close_bound = CLOSE_BOUND
        self._link = Link(redis, PATIENCE)
        self._state: Literal["new", "started", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sources: Sequence[Source] = ()
        self._keepers: list[Keeping[Any]] = []
        self._reading: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._holding: list[asyncio.Task[None]] = []  # those that hold leases
        self._closed = asyncio.Event()
        # Whether what is finished counts: from the start, until closing does not wait for it any more.
        self._counting = False
        # Those who wait for the end of closing, and so do not handle anything meanwhile.
        self._closers: set[asyncio.Task[Any] | None] = set()
        # Set when something is not in hand any more.
        self._let_go = asyncio.Event()
        self._started: float | None = None
        self._failed: Exception | None = None

    @abstractmethod
    def _open(self) -> Sequence[Source]:
        """Make who reads; and who stores, in `_keepers`."""

    @abstractmethod
    def _fail(self, error: Exception) -> None:
        """Tell whoever consumes what no further attempt can mend."""

    @abstractmethod
    def _end(self) -> None:
        """Tell whoever consumes that all is over."""

    async def start(self) -> None:
        """Connect, and begin to read. Where Redis cannot be reached at the moment, that goes on in the background.

        Raises:
            AccessRefused: the server refuses the password, or rights are missing.
            ConfigError: the address, or what a stream's key holds, can never work.
            CursorCorrupt: what is stored as a subscriber's cursor is no ID.
        """
        if self._state != "new":
            raise RuntimeError(f"{self._what} was used before; make another one")
        self._state = "started"
        self._counting = True
        self._started = monotonic()
        self._loop = asyncio.get_running_loop()
        self._sources = self._open()
        try:
            await self._try_to_begin()
        except BaseException:
            self._state = "closed"
            self._counting = False
            with anyio.CancelScope(shield=True):
                await self._withdraw()
                await self._disconnect()
            raise
        await self._launch()

    async def _launch(self) -> None:
        """Have it go on in the background."""
        self._spawn()

    def _spawn(self) -> None:
        """Have those who read and store go on."""
        self._reading = [self._task(source) for source in self._sources]
        self._tasks = [*self._reading, *map(self._task, self._keepers)]

    async def _before(self) -> None:
        """Do what comes before the first attempt to connect. Raises as that does."""

    async def _withdraw(self) -> None:
        """Undo that, as the start has failed."""

    async def _try_to_begin(self) -> None:
        try:
            await self._before()
            async with asyncio.timeout(self._patience):
                await self._begin()
        except (Unreachable, Disconnected, Refusal, TimeoutError) as error:
            reason = str(error) or f"{self._link.where} did not answer in {self._patience:g} s"
            logger.warning("read_unreachable: %r starts without a server: %s", self._name, reason)
        if self._state == "closed":
            raise EventsError(f"{self._what} was closed while it started")

    async def _begin(self) -> None:
        """Make the first attempt to connect. Raises what that does."""
        for source in self._sources:
            await source.begin()

    def _task(self, part: Running) -> asyncio.Task[None]:
        assert self._loop is not None
        task = self._loop.create_task(part.run(), name=f"mainflux_events {self._name}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task is over. Before closing that means that it died, and whoever iterates is told."""
        error: BaseException | None = None if task.cancelled() else task.exception()
        if self._state != "started" or (error is None and not task.cancelled()):
            return
        if not isinstance(error, LeaseLost | SubscriberBusy):
            cause = "somebody cancelled it" if error is None else repr(error)
            error = EventsError(f"a background task of {self._what} died: {cause}")
        self._failed = error
        self._fail(error)

    async def aclose(self) -> None:
        """Hand out nothing more, let what is in hand be finished, store what is handled, and end: in 2 s at most.

        Who calls it in the body of the loop, or in a handler, lets go of the event that is in hand there.
        """
        if self._loop is not None:
            self._check_loop()
        started = self._state == "started"
        self._state = "closed"
        self._end()
        caller = asyncio.current_task()
        self._closers.add(caller)
        self._let_go.set()
        try:
            if started:
                await self._close()
            elif self._tasks or self._holding:
                await self._closed.wait()
        finally:
            self._closers.discard(caller)

    async def _close(self) -> None:
        try:
            for keeper in self._keepers:
                keeper.close()
            async with asyncio.timeout(self._close_bound):
                await end(self._reading)
                await self._conclude(await self._let_finish(self._close_bound * FINISH_PART))
        except TimeoutError:
            for keeper in self._keepers:
                keeper.report_unsaved()
        finally:
            self._count_no_more()
            try:
                await end([*self._holding, *self._tasks])
            finally:
                self._closed.set()
                await self._disconnect()

    @abstractmethod
    async def _let_finish(self, seconds: float) -> Collection[str]:
        """Wait until all that is in hand is finished, so long at most. From then on, nothing more counts.

        Gives the streams of which something is still being handled.
        """

    def _count_no_more(self) -> None:
        """What is finished from now on does not count any more."""
        self._counting = False

    async def _conclude(self, at_work: Collection[str]) -> None:
        """Do what is to be done when nothing is read any more, and of these streams something is being handled."""
        for keeper in list(self._keepers):
            await keeper.conclude(self._close_bound)

    def _connected(self) -> list[Connected]:
        """Who has connections to end, when nothing runs any more."""
        return [*self._sources, *self._keepers]

    async def _disconnect(self) -> None:
        await conclude([part.disconnect() for part in self._connected()])

    def _check_started(self) -> None:
        """Raise why nothing can be asked for now, if so."""
        if self._state != "new" and self._loop is not None:
            self._check_loop()
        if (error := self._unusable()) is not None:
            raise error

    def _check_counting(self) -> None:
        """Raise why nothing can be committed now, if so."""
        if self._counting:
            self._check_loop()
        else:
            self._check_started()

    def _unusable(self) -> EventsError | None:
        """Why nothing can be asked for now, if so."""
        match self._state:
            case "new":
                return NotStarted(self._what)
            case "closed":
                return EventsError(f"{self._what} is closed; make another one")
        return None

    @property
    def _standing_by(self) -> bool:
        """Whether it waits for another one of its name."""
        return False

    def _check_loop(self) -> None:
        if self._loop is not _get_running_loop():
            raise RuntimeError(f"{self._what} belongs to another event loop; make one for each")
