"""What every kind of subscriber is to who uses it: one loop over events at a time, or `run` with a handler.

Decoding, handing out and finishing happen in the task that iterates. What is handed out comes out of a run of decoded
entries, so that a step of the loop is little more than a look at the next one.
"""

from __future__ import annotations

import asyncio
import weakref
from abc import abstractmethod
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Coroutine, Iterable
from time import monotonic
from typing import Any, Final, NoReturn, Self

import anyio
from anyio.abc import TaskStatus

from .checkup import found
from .dispatch import Dispatch, Handler, OnFailure
from .errors import DeliveredTooOften, EventsError, StreamGap, StreamReset
from .events import Action, Event
from .gate import Gate
from .health import MAX_STALL, SubscriberHealth, subscriber_health
from .hooks import Hooks, Observers, logger
from .intake import Fenced, Intake, Keeper, Run
from .iteration import Iteration
from .keeping import Keeping
from .link import Server
from .notices import Notices, OnGap
from .policies import DeadLetters, Retry, instance, positive
from .service import Connected, Service
from .sieve import OnUnknown, Sieve
from .stats import SubscriberStats
from .writer import DeadLetterWriter

# How many events may be handed out, and for how long, before the event loop gets a turn.
TURN_EVENTS: Final = 64
TURN_SECONDS: Final = 0.001


class Consumer(Service):
    """The face of subscribers.

    Args:
        what, name, redis: as of `Service`.
        actions: the classes to decode; None means all that are known.
        on_unknown: what becomes of an operation that no class is known for.
        hooks: who is told.
        dead_letters: where entries go that could not be handled.
        on_gap: whether gaps and resets are raised.
    """

    def __init__(
        self,
        what: str,
        name: str,
        redis: Server,
        actions: Iterable[type[Action]] | None,
        on_unknown: OnUnknown,
        hooks: Hooks | Iterable[Hooks],
        dead_letters: DeadLetters | None = None,
        on_gap: OnGap = "report",
    ) -> None:
        super().__init__(what, name, redis)
        self._observers = Observers(hooks)
        self._notices = Notices(on_gap, self._observers)
        self._sieve = Sieve(actions, on_unknown, self._observers, dead_letters is not None)
        self._intake = Intake(self._sieve)
        self._gate = Gate()
        # The run that is being handed out: up to which place that is done, and up to which its keeper knows that they
        # are finished. The one before the place is in hand, unless the keeper knows of it. Nothing is handed out
        # without a closer look from `_stop` on, which is 0 while somebody waits.
        self._run: Run | None = None
        self._events: list[Event] = []
        self._place = self._kept = self._stop = 0
        self._keeper: Keeper
        self._finished = self._given_up = self._retried = 0
        self._turn_due = 0.0
        self._until_turn = 0
        self._consumer: weakref.ref[Iteration] | None = None
        self._asking = False
        self._dispatch: Dispatch | None = None
        self._writer: DeadLetterWriter | None = None
        if dead_letters is not None:
            self._writer = DeadLetterWriter(self._link, dead_letters, name, **self._settings())

    # --- consuming ---

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._consume()

    async def __anext__(self) -> Event:
        if self._consumer is not None and self._consumer() is not None:
            raise RuntimeError(_BUSY)
        return await self._advance()

    async def run(
        self,
        handler: Handler,
        *,
        retry: Retry = Retry(),
        timeout: float | None = None,
        on_failure: OnFailure = "skip",
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
            task_status: for `await task_group.start(subscriber.run, handler)`.

        Raises:
            HandlerFailed: as `on_failure` says.
            DeadLetterLimitReached: too many events would go to the dead letters; the cursor stays before the last.
            StreamGap, StreamReset: as `on_gap` of the subscriber says.
            EventsError: what `start` raises, where it starts the subscriber.
        """
        dispatch = Dispatch(
            handler,
            retry=retry,
            timeout=timeout,
            on_failure=on_failure,
            observers=self._observers,
            name=self._name,
            bury=None if self._writer is None else self._bury_in_hand,
        )
        if self._state == "new":
            async with self:
                await self._handle_all(dispatch, task_status)
        else:
            await self._handle_all(dispatch, task_status)

    async def _handle_all(self, dispatch: Dispatch, task_status: TaskStatus[Self]) -> None:
        events = self._consume()
        task_status.started(self)
        self._dispatch = dispatch
        try:
            async for event in events:
                if not await dispatch.handle(event) and self._in_hand:
                    self._given_up += 1
                    self._settle(self._place)
        finally:
            self._dispatch = None
            self._retried += dispatch.retried
            # This loop is over, also where the traceback of an error or of a cancellation keeps the object alive.
            self._consumer = None
            self._left(None)

    def _consume(self) -> Iteration:
        self._check_started()
        if self._asking or (self._consumer is not None and self._consumer() is not None):
            raise RuntimeError(_BUSY)
        events = Iteration(self)
        self._consumer = weakref.ref(events, self._left)
        if self._in_hand:
            # It was handed out and not handled, so it comes again.
            self._settle_finished()
            self._place -= 1
        return events

    def _left(self, _: object) -> None:
        """The loop was left: what is handled is to be stored, whatever the policy."""
        for keeper in self._keepers:
            keeper.store_soon()

    async def commit(self, event: Event) -> None:
        """Commit the event that was handed out last, without asking for the next; wait until that is stored.

        Raises:
            ValueError: it is another event.
            TimeoutError: it is not stored yet. It will be tried further.
        """
        self._check_started()
        instance("commit", event, Event)
        self._settle_finished()
        if self._in_hand:
            last = self._events[self._place - 1]
            if (last.id, last.stream) == (event.id, event.stream):
                self._settle(self._place)
        keeper = self._keeper_of(event)
        if keeper is None:
            raise ValueError("commit: this event is not the one that was handed out last")
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

    # --- one step ---

    @property
    def _in_hand(self) -> bool:
        """Whether an event was handed out and is not finished."""
        return self._place > self._kept

    async def _advance(self) -> Event:
        """Finish the event in hand, and give the next. Cancelled, it has taken nothing."""
        if self._asking or self._loop is not _get_running_loop():
            self._refuse()
        if self._state == "started" and self._in_hand:
            self._settle(self._place)
        while True:
            now = monotonic()
            if self._until_turn <= 0 or now >= self._turn_due:
                await self._turn()
            if self._state == "closed":
                raise StopAsyncIteration
            if self._turn_due > self._gate.until:
                # Until the turn is due, events are handed out without another look at the gate.
                await self._waiting(self._gate.news())
                continue
            if self._place < len(self._events):
                self._stop = len(self._events)
                self._place += 1
                return self._events[self._place - 1]
            if (error := self._unreadable) is not None:
                attempts = error.deliveries if isinstance(error, DeliveredTooOften) else 0
                await self._waiting(self._bury(1, error, attempts))
            elif not self._next_run():
                waits = self._intake.inbox.empty()
                if not await self._waiting(self._intake.refill()):
                    raise StopAsyncIteration
                if waits:
                    self._turn_due = monotonic() + TURN_SECONDS

    def _next_run(self) -> bool:
        """Begin with the next entries that were fetched, and finish those that are passed over."""
        try:
            run = self._run = self._intake.next_run(self._until_turn)
        except (StreamGap, StreamReset):
            # The loop is over, though the traceback may keep it.
            self._consumer = None
            self._left(None)
            raise
        self._place = self._kept = self._stop = 0
        if run is None:
            self._events = []
            return False
        self._until_turn -= len(run.entries)
        self._events = run.events
        self._keeper = run.keeper
        self._keeper.begin()
        if run.passed:
            self._keeper.finished(run.track, run.entries[: run.passed])
        return True

    @property
    def _unreadable(self) -> EventsError | None:
        """Why the next entry cannot be handed out, where it is to be dead-lettered."""
        return None if self._run is None or self._kept else self._run.unreadable

    async def _bury_in_hand(self, event: Event, error: BaseException, attempts: int) -> None:
        if self._in_hand:  # it is not, where the handler has committed it
            await self._bury(self._place, error, attempts)

    async def _bury(self, place: int, error: BaseException, attempts: int) -> None:
        """Have an entry of the run dead-lettered, and finish it. Where the subscriber closes first, it stays."""
        run = self._run
        assert run is not None
        assert self._writer is not None
        entry = run.entries[run.passed + place - 1]
        try:
            buried = await self._writer.write(run.track, entry, error, attempts, run.keeper)
        except (TimeoutError, Fenced):
            return
        if self._run is not run:
            return  # it was abandoned meanwhile
        if not buried:
            self._given_up += 1
            id, stream = entry[0].decode(), run.track.stream
            logger.error("event_given_up: entry %s of %r was passed by somebody else meanwhile", id, stream)
        self._place = place
        if self._kept < place:
            self._settle(place)

    async def _turn(self) -> None:
        """Give the event loop a turn; since no handler awaits it, it is no reason to commit each event."""
        await self._waiting(asyncio.sleep(0))
        self._until_turn = TURN_EVENTS - (len(self._events) - self._place)
        self._turn_due = monotonic() + TURN_SECONDS
        self._look_out()

    async def _waiting(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Await something, while nobody else may ask for an event."""
        self._asking = True
        self._stop = 0
        try:
            return await what
        finally:
            self._asking = False

    def _look_out(self) -> None:
        """Tell those who store that the event loop had its turn."""
        for keeper in self._keepers:
            keeper.look_out()

    def _settle(self, place: int) -> None:
        """The events up to this place are finished."""
        run, begins = self._run, self._kept
        assert run is not None
        self._kept = place
        self._finished += place - begins
        run.keeper.finished(run.track, run.entries[run.passed + begins : run.passed + place])

    def _abandon(self) -> None:
        """Forget what was fetched, and the event in hand: it comes again."""
        self._settle_finished()
        self._run = None
        self._events = []
        self._place = self._kept = self._stop = 0
        self._intake.clear()

    def _settle_finished(self) -> bool:
        """Those before the event in hand are finished. Gives whether there is one in hand."""
        if not self._in_hand:
            return False
        if self._place - 1 > self._kept:
            self._settle(self._place - 1)
        return True

    # --- looking ---

    @property
    def stats(self) -> SubscriberStats:
        """The counts as they are now."""
        finished = self._finished + max(0, self._place - self._kept - 1)
        skipped, unreadable = self._sieve.skipped, self._sieve.given_up
        dead_lettered = self._writer.written if self._writer else 0
        in_hand = self._in_hand or self._unreadable is not None
        return SubscriberStats(
            received=finished + skipped + unreadable + in_hand,
            handled=finished - self._given_up - dead_lettered,
            skipped=skipped,
            retried=self._retried + (self._dispatch.retried if self._dispatch else 0),
            dead_lettered=dead_lettered,
            given_up=unreadable + self._given_up,
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

    def _settings(self) -> dict[str, Any]:
        """What those who read and store have in common."""
        return {"backoff": self._backoff, "patience": self._patience, "observers": self._observers}

    async def _begin(self) -> None:
        await super()._begin()
        if self._writer is not None:
            await self._writer.check()

    async def _conclude(self) -> None:
        if self._writer is not None:
            self._writer.close(self._close_bound)
            await self._writer.idle()
        await super()._conclude()

    def _connected(self) -> list[Connected]:
        return [*super()._connected(), *([] if self._writer is None else [self._writer])]

    def _fail(self, error: Exception) -> None:
        self._intake.inbox.put_nowait(error)

    def _end(self) -> None:
        self._stop = 0
        self._gate.wake()
        self._intake.inbox.put_nowait(None)

    def _refuse(self) -> NoReturn:
        """Raise why nothing can be asked for now."""
        self._check_started()
        raise RuntimeError(_BUSY)


_BUSY: Final = "this subscriber is being consumed already: one loop or run at a time"
