"""Handlers that work at the same time, or on several events at once: `run` with `concurrency` or `batch`.

The task that called `run` takes entries into the window; each worker handles one event after another, or one batch
after another, for as long as there is one. Where there is nothing to do, there are no workers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final, Generic, TypeAlias, TypedDict, TypeVar

from anyio.abc import TaskStatus

from .dispatch import Dispatch, OnFailure
from .errors import ConfigError
from .events import Event
from .intake import TURN_EVENTS, TURN_SECONDS, Intake, Run
from .policies import Retry, positive, whole
from .window import Slot, Window

Key: TypeAlias = "Callable[[Event], Hashable]"

# The window, in calls of the handler that there may be at once: the more, the longer the others go on beside a key
# that is slow, and the more comes again after a crash.
WINDOW: Final = 8


def key_of(event: Event) -> Hashable:
    """The ID of what the action is about. All events whose action has none share one key, None."""
    id = getattr(event.action, "id", None)
    if type(id) is str:
        return id
    try:
        hash(id)
    except TypeError:
        return None
    return id


T = TypeVar("T")


class Options(TypedDict, Generic[T], total=False):
    """What `run` takes besides the handler, as it is told there."""

    retry: Retry
    timeout: float | None
    on_failure: OnFailure
    concurrency: int
    key: Key | None
    max_wait: float
    task_status: TaskStatus[T]


class Running:
    """One `run`, of several handlers at the same time.

    Args:
        intake: where events come from.
        look_out: has what is finished in this turn of the event loop stored together.
        dispatch: what calls the handler.
        concurrency: how many calls there may be at once.
        key: what events have in common that have to be handled in order; None for the ID of the action.
        batch: how many events a call may have; with more than one it gets a list.
        max_wait: seconds that a batch which is not full waits for more.

    Attributes:
        finished: how many events are done with.
        given_up: how many of them were not handled.

    Raises:
        ConfigError: an argument that cannot work.
    """

    def __init__(
        self,
        intake: Intake,
        look_out: Callable[[], None],
        dispatch: Dispatch,
        *,
        concurrency: int,
        key: Key | None,
        batch: int,
        max_wait: float,
    ) -> None:
        whole("concurrency", concurrency)
        whole("batch", batch)
        positive("max_wait", max_wait, zero=True)
        if key is not None and (not callable(key) or inspect.iscoroutinefunction(key)):
            raise ConfigError(f"key: a plain function of an event is wanted, not {key!r}")
        self._intake = intake
        self._look_out = look_out
        self._dispatch = dispatch
        self._concurrency = concurrency
        # Where one handler works at a time, the oldest go first: all are in order, whatever their keys.
        self._key = key or key_of if concurrency > 1 else id
        self._batch = batch
        self._max_wait = max_wait
        self._window = Window(WINDOW * concurrency * batch)
        self._wanted = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._workers = self._starting = 0
        # Nothing is begun any more; nor does it count; or what is there is to be handled, and nothing follows.
        self._stopped = self._closed = self._draining = False
        self._error: Exception | None = None
        # A batch need not be full any more, or will not from a time on.
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        # Turns of the event loop in which events are finished: how many there were, when this one has to end, and
        # whether nothing was finished in it yet.
        self._turns = 0
        self._turn_due = 0.0
        self._fresh = asyncio.Event()
        self._fresh.set()
        self.finished: int = 0
        self.given_up: int = 0

    @property
    def one_by_one(self) -> bool:
        """Whether there is nothing to it but one event after another."""
        return self._concurrency == self._batch == 1

    @property
    def in_flight(self) -> int:
        """How many events are being handled."""
        return self._window.in_flight

    @property
    def unfinished(self) -> bool:
        """Whether there are events in the window."""
        return self._window.unfinished

    async def run(self) -> None:
        """Handle events until the end.

        Raises:
            HandlerFailed: as the dispatch says. Other handlers at work are cancelled.
            Exception: what no further attempt can mend, when everything before it is handled.
        """
        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._feed()
        except BaseExceptionGroup as group:
            # Of several handlers that failed at the same time, each was reported.
            failed = group.exceptions[0]
        finally:
            self._disarm()
        if failed := failed or self._error:
            raise failed

    def stop(self) -> None:
        """Begin nothing more; what is being handled goes on to its end, and does not count as handled."""
        self._stopped = self._closed = True
        self._wanted.set()

    def rest(self) -> list[Run]:
        """What is not finished, and what is behind it."""
        return self._window.rest()

    # --- in ---

    async def _feed(self) -> None:
        """Take entries into the window while they are wanted."""
        try:
            left = TURN_EVENTS
            while not self._stopped:
                if not self._wants_more:
                    self._wanted.clear()
                    await self._wanted.wait()
                elif left <= 0:
                    await asyncio.sleep(0)
                    self._look_out()
                    left = TURN_EVENTS
                elif run := self._intake.next_run(min(left, self._window.room)):
                    left -= len(run.entries)
                    await self._add(run)
                elif not await self._refill():
                    break
        except BaseException:
            self._stopped = True
            raise
        self._draining = True
        self._engage()

    @property
    def _wants_more(self) -> bool:
        return self._window.room > 0 and self._window.available < self._concurrency * self._batch

    async def _refill(self) -> bool:
        try:
            return await self._intake.refill()
        except Exception as error:
            self._error = error  # to be raised where it stands among the events
            return False

    async def _add(self, run: Run) -> None:
        run.keeper.begin()
        keyless: list[tuple[Slot, Exception]] = []
        for slot in self._window.add(run):
            try:
                self._window.queue(slot, self._key(slot.event))
            except Exception as error:  # of the key's function, or a key that cannot be hashed
                keyless.append((slot, error))
        self._engage()
        for slot, reason in keyless:
            handled = await self._dispatch.give_up(slot.event, reason)
            self._finish([slot], handled)

    # --- out ---

    def _engage(self) -> None:
        """Have as many workers as there is work for, and more taken into the window where there is little left."""
        while self._workers < self._concurrency and self._worth(
            self._window.available - self._starting * self._batch
        ):
            self._workers += 1
            self._starting += 1
            self._tasks.create_task(self._work(), name="mainflux_events handler")
        if self._batch > 1 and self._window.available and not self._overdue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait, self._fall_due)
        if self._wants_more:
            self._wanted.set()

    def _worth(self, events: int) -> bool:
        """Whether so many events are worth a call: a full batch, or all that can be had."""
        if self._stopped or events <= 0:
            return False
        return events >= self._batch or self._overdue or self._draining or self._window.room <= 0

    def _fall_due(self) -> None:
        self._disarm()
        self._overdue = True
        self._engage()

    def _disarm(self) -> None:
        self._overdue = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _work(self) -> None:
        """Handle one event or batch after another, for as long as there is one."""
        self._starting -= 1
        turn = self._turns
        try:
            while True:
                if turn == self._turns:
                    await self._turn()
                turn = self._turns
                slots = self._take()
                self._engage()
                if not slots:
                    return
                given = slots[0].event if self._batch == 1 else [slot.event for slot in slots]
                handled = await self._dispatch.handle(given)
                if self._closed:
                    return
                self._finish(slots, handled)
        except BaseException:
            self._stopped = True
            raise
        finally:
            self._workers -= 1

    def _take(self) -> list[Slot]:
        """The next events to be handled by one call."""
        if not self._worth(self._window.available):
            return []
        self._disarm()
        return self._window.take(self._batch)

    def _finish(self, slots: list[Slot], handled: bool) -> None:
        self.finished += len(slots)
        if not handled:
            self.given_up += len(slots)
        if self._fresh.is_set():
            self._fresh.clear()
            asyncio.get_running_loop().call_soon(self._turn_begins)
            if self._concurrency > 1:
                self._look_out()
        self._window.finish(slots)

    async def _turn(self) -> None:
        """Give the event loop a turn where that is due: handlers may never await anything."""
        while not self._fresh.is_set() and monotonic() >= self._turn_due:
            await self._fresh.wait()

    def _turn_begins(self) -> None:
        self._turns += 1
        self._turn_due = monotonic() + TURN_SECONDS
        self._fresh.set()
