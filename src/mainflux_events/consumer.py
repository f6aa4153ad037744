"""What every kind of subscriber is to who uses it: one loop over events at a time, or `run` with a handler."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

import anyio
from anyio.abc import TaskStatus

from .checkup import found
from .dispatch import BatchHandler, Dispatch, Handler, Key, OnFailure, key_of
from .events import Event
from .health import MAX_STALL, SubscriberHealth, subscriber_health
from .keeping import Keeping
from .policies import Retry, instance, positive
from .service import Connected
from .stats import SubscriberStats
from .stepping import Stepper

if TYPE_CHECKING:
    from .workers import Workers


class Options(TypedDict, total=False):
    """What `run` takes besides the handler."""

    retry: Retry
    timeout: float | None
    on_failure: OnFailure
    concurrency: int
    key: Key | None
    max_wait: float
    task_status: TaskStatus[Any]


class Consumer(Stepper):
    """The face of subscribers. Its arguments are those of `Stepper`."""

    _dispatch: Dispatch | None = None
    _workers: Workers | None = None
    _retried: int = 0
    # What events have in common that are handled in order, unless `run` is told.
    _key_of: Key = staticmethod(key_of)

    @overload
    async def run(self, handler: Handler, *, batch: Literal[1] = 1, **options: Unpack[Options]) -> None: ...

    @overload
    async def run(self, handler: BatchHandler, *, batch: int, **options: Unpack[Options]) -> None: ...

    async def run(
        self,
        handler: Handler | BatchHandler,
        *,
        retry: Retry = Retry(),
        timeout: float | None = None,
        on_failure: OnFailure = "skip",
        concurrency: int = 1,
        key: Key | None = None,
        batch: int = 1,
        max_wait: float = 0.1,
        task_status: TaskStatus[Any] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call a handler for each event until cancelled or closed. Starts the subscriber, where that is not done.

        Args:
            handler: a plain function or a coroutine function, called on the event loop.
            retry: how often it is called for one event.
            timeout: seconds that one call of a coroutine function may take.
            on_failure: what becomes of an event that no attempt handled: "skip" sends it to the dead letters, or
                gives it up with a report where there are none; "raise" raises HandlerFailed and leaves the cursor
                before it.
            concurrency: how many calls there may be at once, for events of different keys. What is stored as handled
                ends before the oldest unfinished event; from that on, there are 8 events for each call at most.
            key: gives what events have in common that have to be handled in order; None for the `id` of the action.
                Events of actions without one are all handled in order, with partitions those of each partition.
            batch: above 1, the handler gets a list of so many events at most, in their order; `retry`, `timeout` and
                `on_failure` are about the list as a whole.
            max_wait: seconds that a batch which is not full waits for more events.
            task_status: for `await task_group.start(subscriber.run, handler)`.

        Raises:
            HandlerFailed: as `on_failure` says. Other calls at that time are cancelled.
            DeadLetterLimitReached: too many events would go to the dead letters; the cursor stays before the last.
            StreamGap, StreamReset: as `on_gap` of the subscriber says.
            ConfigError: an argument that cannot work.
            EventsError: what `start` raises, where it starts the subscriber.
        """
        dispatch = Dispatch(
            handler,
            retry=retry,
            timeout=timeout,
            on_failure=on_failure,
            observers=self._observers,
            name=self._name,
            bury=None if self._writer is None else self._bury_event,
            gate=self._gate,
            lost=self._lost,
        )
        self._check_run(concurrency, batch)
        from .workers import Workers  # when it is needed first, as `__init__` does with others

        workers = Workers(
            self._intake,
            self._gate,
            dispatch,
            self._look_out,
            self._bury,
            concurrency=concurrency,
            key=self._key_of if key is None else key,
            batch=batch,
            max_wait=max_wait,
        )
        if self._state == "new":
            async with self:
                await self._handle_all(dispatch, workers, task_status)
        else:
            await self._handle_all(dispatch, workers, task_status)

    def _check_run(self, concurrency: int, batch: int) -> None:
        """Raise ConfigError where there cannot be so many calls at once, or so many events in one."""

    async def _handle_all(self, dispatch: Dispatch, workers: Workers, task_status: TaskStatus[Self]) -> None:
        events = self._consume()
        task_status.started(self)
        self._dispatch = dispatch
        try:
            if workers.several:
                await self._handle_together(workers)
            else:
                await dispatch.handle_each(events, self._unhandled)
        finally:
            self._dispatch = None
            self._retried += dispatch.retried
            # This loop is over, also where the traceback of an error or of a cancellation keeps the object alive.
            self._consumer = None
            self._left(None)

    def _unhandled(self, again: bool) -> None:
        """The event in hand is let go or given up. It may be out of hand: committed, or abandoned."""
        if again:
            self._let_go_of_it()
        elif self._in_hand:
            self._given_up += 1
            self._settle(self._place)

    async def _handle_together(self, workers: Workers) -> None:
        self._put_back()
        self._workers = workers
        try:
            await workers.run()
        finally:
            self._workers = None
            self._finished += workers.finished
            self._given_up += workers.given_up
            self._intake.give_back(workers.rest())

    async def _bury_event(self, event: Event, error: BaseException, attempts: int) -> None:
        if self._workers is not None:
            await self._workers.bury(event, error, attempts)
        elif self._in_hand:  # it is not, where the handler has committed it
            await self._bury_next(self._place, error, attempts)

    def _lost(self, event: Event) -> bool:
        """Whether an event that is being handled was forgotten meanwhile."""
        return self._run is None if self._workers is None else self._workers.lost(event)

    def _settle_finished(self) -> bool:
        return super()._settle_finished() if self._workers is None else self._workers.unfinished

    def _abandon(self) -> None:
        super()._abandon()
        if self._workers is not None:
            self._workers.abandon()

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
        """
        self._check_counting()
        instance("commit", event, Event)
        self._settle_finished()
        if self._in_hand:
            last = self._events[self._place - 1]
            if (last.id, last.stream) == (event.id, event.stream):
                self._settle(self._place)
                self._let_go.set()
        keeper = self._keeper_of(event)
        if keeper is None:
            raise ValueError(
                "commit: this event is not the one that was handed out last; a run with concurrency or batches commits "
                "by itself"
            )
        try:
            await keeper.flush(self._patience)
        except TimeoutError:
            raise TimeoutError(
                f"commit: entry {event.id} of {event.stream!r} is not stored as handled after {self._patience:g} s; "
                "it is tried further"
            ) from None

    @abstractmethod
    def _keeper_of(self, event: Event) -> Keeping[Any] | None:
        """Who stores that an event is handled; none where it is not, or not of this subscriber."""

    # --- looking ---

    @property
    def stats(self) -> SubscriberStats:
        """The counts as they are now."""
        workers = self._workers
        if workers is None:
            finished, given_up = max(0, self._place - self._kept - 1), 0
            in_hand = int(self._in_hand or self._unreadable is not None)
        else:
            finished, given_up, in_hand = workers.finished, workers.given_up, workers.in_hand
        finished += self._finished
        given_up += self._given_up
        skipped, unreadable = self._sieve.skipped, self._sieve.given_up
        dead_lettered = self._writer.written if self._writer else 0
        return SubscriberStats(
            received=finished + skipped + unreadable + in_hand,
            handled=finished - given_up - dead_lettered,
            skipped=skipped,
            retried=self._retried + (self._dispatch.retried if self._dispatch else 0),
            dead_lettered=dead_lettered,
            given_up=unreadable + given_up,
            gaps=self._notices.gaps,
            missed=self._notices.missed,
            resets=self._notices.resets,
        )

    def health(self, *, max_stall: float = MAX_STALL) -> SubscriberHealth:
        """Whether it gets on. Asks nobody, and may be called from any thread.

        Args:
            max_stall: how many seconds one event may be in hand, events may wait until somebody asks for them, and
                attempts to read, to store what is handled or to renew the lease may fail.
        """
        positive("max_stall", max_stall)
        return subscriber_health(found(self), monotonic(), max_stall)

    # --- life ---

    async def _begin(self) -> None:
        await super()._begin()
        if self._writer is not None:
            await self._writer.check()

    def _at_work(self) -> set[str]:
        return super()._at_work() if self._workers is None else self._workers.at_work(self._closers)

    def _count_no_more(self) -> None:
        super()._count_no_more()
        if self._workers is not None:
            self._workers.close()

    async def _conclude(self, at_work: Collection[str]) -> None:
        if self._writer is not None:
            await self._writer.idle()
        await super()._conclude(at_work)

    def _connected(self) -> list[Connected]:
        return [*super()._connected(), *([] if self._writer is None else [self._writer])]

    def _fail(self, error: Exception) -> None:
        self._intake.inbox.put_nowait(error)

    def _end(self) -> None:
        self._stop = 0
        self._gate.end_turn()
        self._intake.inbox.put_nowait(None)
        if self._writer is not None:
            self._writer.close(self._close_bound)
        if self._workers is not None:
            self._workers.stop(self._let_go.set)
