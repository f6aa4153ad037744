"""One event after another: asking for the next finishes this one.

Decoding, handing out and finishing happen in the task that iterates. What is handed out comes out of a run of decoded
entries, so that a step is little more than a look at the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Coroutine, Iterable
from time import monotonic
from typing import Any, Final, NoReturn

from .errors import DeliveredTooOften, EventsError, StreamGap, StreamReset
from .events import Action, Event
from .gate import Gate
from .hooks import Hooks, Observers, logger
from .intake import Intake, Run
from .iteration import Iteration
from .keeper import Fenced, Keeper
from .link import Server
from .notices import Notices, OnGap
from .policies import DeadLetters
from .service import Service
from .sieve import OnUnknown, Sieve
from .turns import TURN_EVENTS, TURN_SECONDS
from .writer import DeadLetterWriter


class Stepper(Service):
    """What can be iterated.

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
        self._finished = self._given_up = 0
        self._turn_due = 0.0
        self._until_turn = 0
        self._consumer: weakref.ref[Iteration] | None = None
        # Whose loop it is; None where the last one was left.
        self._owner: asyncio.Task[Any] | None = None
        self._asking = False
        self._writer: DeadLetterWriter | None = None
        if dead_letters is not None:
            self._writer = DeadLetterWriter(self._link, dead_letters, name, **self._settings())

    def _settings(self) -> dict[str, Any]:
        """What those who read and store have in common."""
        return {"backoff": self._backoff, "patience": self._patience, "observers": self._observers}

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._consume()

    async def __anext__(self) -> Event:
        if self._consumer is not None and self._consumer() is not None:
            raise RuntimeError(_BUSY)
        self._owner = asyncio.current_task()
        return await self._advance()

    def _consume(self) -> Iteration:
        self._check_started()
        if self._asking or (self._consumer is not None and self._consumer() is not None):
            raise RuntimeError(_BUSY)
        events = Iteration(self)
        self._consumer = weakref.ref(events, self._left)
        self._owner = asyncio.current_task()
        self._let_go_of_it()
        return events

    def _left(self, _: object) -> None:
        """The loop was left: what is handled is to be stored, whatever the policy."""
        self._owner = None
        for keeper in self._keepers:
            keeper.store_soon()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._let_go.set)

    # --- one step ---

    @property
    def _in_hand(self) -> bool:
        """Whether an event was handed out and is not finished."""
        return self._place > self._kept

    async def _advance(self) -> Event:
        """Finish the event in hand, and give the next. Cancelled, it has taken nothing."""
        if self._asking or self._loop is not _get_running_loop():
            self._refuse()
        if self._counting and self._in_hand:
            self._settle(self._place)
        while True:
            all_handed_out = self._place == len(self._events)
            if (all_handed_out and self._until_turn <= 0) or monotonic() >= self._turn_due:
                await self._turn()
            if self._state == "closed":
                self._let_go.set()
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
                await self._waiting(self._bury_next(1, error, attempts))
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
            self._keeper.finished(run.track, run.entries.ids[: run.passed])
        return True

    @property
    def _unreadable(self) -> EventsError | None:
        """Why the next entry cannot be handed out, where it is to be dead-lettered."""
        return None if self._run is None or self._kept else self._run.unreadable

    async def _bury_next(self, place: int, error: BaseException, attempts: int) -> None:
        """Have an entry of the run dead-lettered, and finish it. Where the subscriber closes first, it stays."""
        run = self._run
        assert run is not None
        buried = await self._bury(run, place - 1, error, attempts, first=True)
        if buried is None or self._run is not run:
            return  # it was abandoned meanwhile
        self._given_up += not buried
        self._place = place
        if self._kept < place:
            self._settle(place)

    async def _bury(
        self, run: Run, place: int, error: BaseException, attempts: int, first: bool
    ) -> bool | None:
        """Have the entry of an event of a run dead-lettered.

        Args:
            run, place: which.
            error: why.
            attempts: how often its handler was called.
            first: whether all before it is finished, so that its keeper may pass it in the same step.

        Returns:
            Whether it was; None where the subscriber closes first, or may pass nothing any more.
        """
        assert self._writer is not None
        entry = run.entries[run.end(place)]
        keeper = run.keeper if first else None
        try:
            buried = await self._writer.write(run.track, entry, error, attempts, keeper)
        except (TimeoutError, Fenced):
            return None
        if not buried:
            id, stream = entry[0].decode(), run.track.stream
            logger.error("event_given_up: entry %s of %r was passed by somebody else meanwhile", id, stream)
        return buried

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
        run, kept = self._run, self._kept
        assert run is not None
        self._kept = place
        self._finished += place - kept
        run.keeper.finished(run.track, run.entries.ids[run.end(kept) : run.end(place)])

    def _abandon(self) -> None:
        """Forget what was fetched, and the event in hand: it comes again."""
        self._settle_finished()
        self._gate.end_turn()
        self._forget_run()
        self._intake.clear()

    def _put_back(self) -> None:
        """Have what is not finished of the run handed out later, as the first."""
        if self._run is not None:
            self._intake.give_back([self._run.behind(self._run.end(self._kept))])
        self._forget_run()

    def _forget_run(self) -> None:
        self._run = None
        self._events = []
        self._place = self._kept = self._stop = 0
        self._let_go.set()

    def _let_go_of_it(self) -> None:
        """The event in hand was not handled, so it comes again."""
        if self._settle_finished():
            self._place -= 1
            self._let_go.set()

    def _settle_finished(self) -> bool:
        """Those before the event in hand are finished. Gives whether more is in hand."""
        if not self._in_hand:
            return False
        if self._place - 1 > self._kept:
            self._settle(self._place - 1)
        return True

    # --- the end ---

    def _at_work(self) -> set[str]:
        """The streams of what is being handled, but for what those have in hand who wait for the end of closing."""
        run, owner = self._run, self._owner
        if run is None or not self._in_hand or owner is None or owner.done() or owner in self._closers:
            return set()
        return {run.track.stream}

    async def _let_finish(self, seconds: float) -> set[str]:
        def over(_: object) -> None:
            self._let_go.set()

        owner = self._owner
        if owner is not None:
            owner.add_done_callback(over)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._at_work():
                    self._let_go.clear()
                    await self._let_go.wait()
        self._count_no_more()
        if owner is not None:
            owner.remove_done_callback(over)
        if at_work := self._at_work():
            streams = ", ".join(sorted(at_work))
            logger.warning(
                "still_at_work: %r closes while events of %s are handled: these come again",
                self._name,
                streams,
            )
        return at_work

    def _refuse(self) -> NoReturn:
        """Raise why nothing can be asked for now."""
        self._check_started()
        raise RuntimeError(_BUSY)


_BUSY: Final = "this subscriber is being consumed already: one loop or run at a time"
