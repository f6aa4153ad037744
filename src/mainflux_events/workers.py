"""Handlers that work at the same time, or on several events at once: `run` with `concurrency` or `batch`.

The task that called `run` takes entries into the window; each worker handles one event after another, or one batch
after another, for as long as there is one. Where there is nothing to do, there are no workers.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from .dispatch import Dispatch, Key
from .errors import ConfigError
from .gate import Gate
from .intake import Intake, Run
from .policies import positive, whole
from .taken import Bury, Taken, Unburied
from .turns import TURN_EVENTS, TURN_SECONDS, Turns
from .window import Slot

# The window, in calls of the handler that there may be at once: the more, the longer the others go on beside a key
# that is slow, and the more comes again after a crash.
WINDOW: Final = 8


class Workers(Taken):
    """Those who handle what one `run` has taken.

    Args:
        intake: where events come from.
        gate: until when they may be handed out.
        dispatch: what calls the handler.
        look_out: has what is finished in this turn of the event loop stored together.
        bury: has the entry of an event dead-lettered.
        concurrency: how many calls there may be at once.
        key: what events have in common that have to be handled in order.
        batch: how many events a call may have; with more than one it gets a list.
        max_wait: seconds that a batch which is not full waits for more.

    Raises:
        ConfigError: an argument that cannot work.
    """

    def __init__(
        self,
        intake: Intake,
        gate: Gate,
        dispatch: Dispatch,
        look_out: Callable[[], None],
        bury: Bury,
        *,
        concurrency: int,
        key: Key,
        batch: int,
        max_wait: float,
    ) -> None:
        whole("concurrency", concurrency)
        whole("batch", batch)
        positive("max_wait", max_wait, zero=True)
        if not callable(key) or inspect.iscoroutinefunction(key):
            raise ConfigError(f"key: a plain function of an event is wanted, not {key!r}")
        super().__init__(WINDOW * concurrency * batch, bury)
        self._intake = intake
        self._gate = gate
        self._dispatch = dispatch
        self._look_out = look_out
        self._concurrency = concurrency
        # Where one handler works at a time, all are in order, whatever their keys.
        self._key: Key | None = key if concurrency > 1 else None
        self._batch = batch
        self._max_wait = max_wait
        self._wanted = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        # Tasks, and those of them that have not begun.
        self._working = self._starting = 0
        # Nothing is begun any more; or what is there is to be handled, and nothing follows.
        self._stopped = self._draining = False
        self._error: Exception | None = None
        # Told of the end of each worker.
        self._told: Callable[[], None] = _nothing
        # A batch need not be full any more, or will not from a time on.
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        self._turns = Turns()

    @property
    def several(self) -> bool:
        """Whether there is more to it than one event after another."""
        return self._concurrency > 1 or self._batch > 1

    async def run(self) -> None:
        """Handle events until the end.

        Raises:
            HandlerFailed, DeadLetterLimitReached: as the dispatch says. Other calls are cancelled.
            Exception: what no further attempt can mend, when everything before it is handled.
        """
        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._feed()
                self._draining = True
                self._engage()
        except BaseExceptionGroup as group:
            # Of several handlers that failed at the same time, each was reported.
            failed = group.exceptions[0]
        finally:
            self._disarm()
        if failed := failed or self._error:
            raise failed

    def stop(self, told: Callable[[], None]) -> None:
        """Begin nothing more; what is being handled goes on to its end, of which `told` is told."""
        self._stopped = True
        self._told = told
        self._wanted.set()

    def abandon(self) -> None:
        super().abandon()
        self._disarm()

    def withdraw(self, stream: str) -> bool:
        withdrawn = super().withdraw(stream)
        self._less_waits()
        return withdrawn

    def drop(self, stream: str) -> None:
        super().drop(stream)
        self._less_waits()

    def _less_waits(self) -> None:
        if not self._window.available:
            self._disarm()
        self._engage()

    # --- in ---

    async def _feed(self) -> None:
        """Take entries into the window while they are wanted."""
        turn_due = 0.0
        try:
            while await self._may_begin():
                if not self._wants_more:
                    self._wanted.clear()
                    self._engage()
                    await self._wanted.wait()
                elif monotonic() >= turn_due:
                    await asyncio.sleep(0)
                    self._look_out()
                    turn_due = monotonic() + TURN_SECONDS
                elif run := self._intake.next_run(min(TURN_EVENTS, self._window.room), self._size):
                    self._add(run)
                elif not await self._intake.refill():
                    break
        except Exception as error:
            self._error = error  # to be raised where it stands among the events
        except BaseException:
            self._stopped = True
            raise

    async def _may_begin(self) -> bool:
        """Wait until events may be handed out. Gives whether they will be."""
        try:
            while monotonic() >= self._gate.until and not self._stopped:
                await self._gate.news()
        except Exception as error:  # they never will be
            self._error = error
            self._stopped = True
            self._wanted.set()
        return not self._stopped

    @property
    def _wants_more(self) -> bool:
        if self._intake.at_notice:
            return not self._window.unfinished and not self._strange
        few = self._window.available < self._concurrency * self._batch
        return few and self._window.room > 0 and not self._strange

    def _add(self, run: Run) -> None:
        if run.passed:
            run.keeper.begin()
        for slot in self._window.add(run):
            if run.unreadable is not None:
                self._spawn(self._refuse(slot, run.unreadable))
            elif self._key is None:
                self._window.queue_in_turn(slot)
            else:
                try:
                    self._window.queue(slot, self._key(slot.event))
                except Exception as error:  # of the key's function, or a key that cannot be hashed
                    self._spawn(self._refuse(slot, error))
        self._engage()

    async def _refuse(self, slot: Slot, error: Exception) -> None:
        """Give up what cannot be handled."""
        slot.run.keeper.begin()
        with suppress(Unburied):
            if slot.run.unreadable is not None:
                await self._bury_slot(slot, error, getattr(error, "deliveries", 0))
            elif not await self._dispatch.give_up(slot.event, error) and not self._closed:
                self._finish([slot], done=False)
        self._engage()

    # --- out ---

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(self._watched(work), name="mainflux_events handler")

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Where one fails, nothing is begun any more: the others may not have heard of it yet."""
        try:
            await work
        except BaseException:
            self._stopped = True
            raise
        finally:
            self._told()

    def _engage(self) -> None:
        """Have as many workers as there is work for, and more taken into the window where there is little left."""
        while self._working < self._concurrency and self._worth(
            self._window.available - self._starting * self._batch
        ):
            self._working += 1
            self._starting += 1
            self._spawn(self._work())
        if self._batch > 1 and self._window.available and not self._overdue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait, self._fall_due)
        if not self._wanted.is_set() and self._wants_more:
            self._wanted.set()

    def _worth(self, events: int) -> bool:
        """Whether so many events are worth a call: a full batch, or all that can be had."""
        if self._stopped or events <= 0:
            return False
        if events >= self._batch or self._overdue or self._draining:
            return True
        return self._window.room <= 0 or self._intake.at_notice

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
        turn = self._turns.count
        task = asyncio.current_task()
        assert task is not None
        try:
            while True:
                if turn == self._turns.count:
                    await self._turns.give()
                if (self._stopped or monotonic() >= self._gate.until) and not await self._may_begin():
                    return
                turn = self._turns.count
                slots = self._take()
                self._engage()
                if not slots:
                    return
                await self._handle(slots, task)
        finally:
            self._working -= 1

    def _take(self) -> list[Slot]:
        """The next events to be handled by one call."""
        if not self._worth(self._window.available):
            return []
        self._disarm()
        return self._window.take(self._batch)

    async def _handle(self, slots: list[Slot], task: asyncio.Task[None]) -> None:
        self._began[task] = monotonic(), slots
        for slot in slots:
            slot.run.keeper.begin()
        given = slots[0].event if self._batch == 1 else [slot.event for slot in slots]
        try:
            done = await self._dispatch.handle(given)
        except Unburied:
            return
        finally:
            del self._began[task]
            known = slots[0].window is self._window
            if not known:
                self._strange -= 1
        if known and not self._closed:
            if done is not None:
                self._finish(slots, done)
            self._window.release(slots)

    def _finish(self, slots: list[Slot], done: bool) -> None:
        if self._turns.finished() and self._concurrency > 1:
            self._look_out()
        super()._finish(slots, done)


def _nothing() -> None:
    pass
