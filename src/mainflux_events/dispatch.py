"""One call of a handler, with an event or a batch: its time, its further attempts, and what follows if none helps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from inspect import isasyncgenfunction, isawaitable
from types import CoroutineType
from typing import Any, Literal, TypeAlias

from .errors import AlreadyHandled, ConfigError, HandlerFailed, LeaseLost
from .events import Event
from .gate import Gate
from .hooks import HandlerFailedDetails, Observers, logger
from .policies import Retry, Waits, positive
from .tracing import wrapped

Handler: TypeAlias = "Callable[[Event], Awaitable[Any] | Any]"
BatchHandler: TypeAlias = "Callable[[list[Event]], Awaitable[Any] | Any]"
OnFailure: TypeAlias = Literal["skip", "raise"]
# Has an event dead-lettered: what its handler raised last, and how often it was called.
Bury: TypeAlias = "Callable[[Event, BaseException, int], Awaitable[None]]"

# What events have in common that are handled in order.
Key: TypeAlias = "Callable[[Event], Hashable]"


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


class Dispatch:
    """Calls a handler for one event or batch after another, or for several at a time.

    Args:
        handler: a plain function or a coroutine function.
        retry: how often it is called for one event.
        timeout: seconds that one call may take; a plain function cannot be interrupted.
        on_failure: what becomes of an event that no attempt handled.
        observers: who is told.
        name: of the subscriber, or of the group.
        bury: where "skip" means the dead letters, what appends to them.
        gate: until when there may be further attempts.
        lost: whether an event that is being handled is not this subscriber's any more.
    """

    def __init__(
        self,
        handler: Handler | BatchHandler,
        *,
        retry: Retry,
        timeout: float | None,
        on_failure: OnFailure,
        observers: Observers,
        name: str = "",
        bury: Bury | None = None,
        gate: Gate | None = None,
        lost: Callable[[Event], bool] = lambda event: False,
    ) -> None:
        if not callable(handler) or isasyncgenfunction(handler):
            raise ConfigError(
                f"handler: a plain function or a coroutine function of an event is wanted, not {handler!r}"
            )
        if not isinstance(retry, Retry):
            raise ConfigError(f"retry: a Retry is wanted, not {retry!r}")
        if timeout is not None:
            positive("timeout", timeout)
        if on_failure not in ("skip", "raise"):
            raise ConfigError(f"on_failure: 'skip' or 'raise' is wanted, not {on_failure!r}")
        self._handler = wrapped(handler, name, observers)
        self._retry = retry
        self._timeout = timeout
        self._on_failure = on_failure
        self._observers = observers
        self._bury = bury
        self._gate = gate or Gate()
        self._lost = lost
        self.retried: int = 0

    async def handle_each(self, events: AsyncIterator[Event], unhandled: Callable[[bool], None]) -> None:
        """Handle one event after another, to the end.

        What `handle` does for one; but where a handler succeeds, nothing is made for its event, not even a coroutine.

        Args:
            events: asking for the next one finishes the one before.
            unhandled: told of each that is not handled, before the next one is asked for: whether it comes again, or is
                given up.

        Raises:
            HandlerFailed, DeadLetterLimitReached, LeaseLost: as `handle`.
        """
        handler: Any = self._handler
        timeout = self._timeout
        gate, cancelling = self._gate, _this_task().cancelling
        async for event in events:
            turn, cancelled_before = gate.turn, cancelling()
            failed: BaseException
            try:
                result = handler(event)
                # Most give one of these two; to ask about anything else is slow.
                if result is None or not (type(result) is CoroutineType or isawaitable(result)):
                    continue
                if timeout is None:
                    await result
                else:
                    async with asyncio.timeout(timeout):
                        await result
                continue
            except asyncio.CancelledError as error:
                if cancelling() > cancelled_before:
                    raise
                failed = error
            except Exception as error:
                failed = error
            done = await self._fail(event, failed, turn)
            if not done:
                unhandled(done is None)

    async def handle(self, given: Event | Sequence[Event]) -> bool | None:
        """Call the handler until it returns.

        Returns:
            Whether what it was given is done with, which it is where it is dead-lettered; False where it is given up,
            None where no further attempt may be made, so that it comes again.

        Raises:
            HandlerFailed: no attempt handled it, and `on_failure="raise"`.
            DeadLetterLimitReached: nor may it be dead-lettered.
            LeaseLost: somebody else has moved the cursor.
        """
        turn = self._gate.turn
        error = await self._call(given)
        return True if error is None else await self._fail(given, error, turn)

    async def _fail(
        self, given: Event | Sequence[Event], error: BaseException | None, turn: int
    ) -> bool | None:
        """The first attempt, made in this turn, has failed: make the others. Gives and raises what `handle` does."""
        retry = self._retry
        waits = Waits(retry.initial, retry.maximum)
        attempt = 1
        while error is not None:
            last = _listed(given)[-1]
            if isinstance(error, AlreadyHandled) and (error.stream, error.id) == (last.stream, last.id):
                # Of a batch, what is said of its last event goes for all before it; what of another, for none behind.
                logger.warning("already_handled: %s", error)
                break
            if all(map(self._lost, _listed(given))):
                self._report(given, attempt, error, final=False)
                return None  # it comes again elsewhere
            if isinstance(error, LeaseLost):
                raise error  # this subscriber may not go on
            if attempt == retry.attempts or not retry.covers(error):
                return await self.give_up(given, error, attempt)
            self._report(given, attempt, error, final=False)
            attempt += 1
            self.retried += 1
            if not await self._gate.still(turn, waits.next()):
                return None
            error = await self._call(given)
        return True

    async def give_up(self, given: Event | Sequence[Event], error: BaseException, attempts: int = 0) -> bool:
        """There is no further attempt, or never was one. Gives and raises what `handle` does."""
        self._report(given, attempts, error, final=True)
        events = _listed(given)
        if self._on_failure == "raise":
            first, operation = events[0], events[0].action.operation
            raise HandlerFailed(first.stream, first.id, operation, attempts, len(events)) from error
        if self._bury is None:
            return False
        for event in events:
            await self._bury(event, error, attempts)
        return True

    async def _call(self, given: Event | Sequence[Event]) -> BaseException | None:
        """One attempt: what it raised, or None. Only the cancellation of this task itself goes through."""
        task = _this_task()
        cancelled_before = task.cancelling()
        try:
            # A handler may change the list that it gets.
            result: Any = self._handler(given if isinstance(given, Event) else list(given))
            if not isawaitable(result):
                return None
            if self._timeout is None:
                await result
            else:
                async with asyncio.timeout(self._timeout):
                    await result
        except asyncio.CancelledError as error:
            if task.cancelling() > cancelled_before:
                raise
            return error  # something that the handler awaited was cancelled, not this subscriber
        except Exception as error:
            return error
        return None

    def _report(
        self, given: Event | Sequence[Event], attempt: int, error: BaseException, final: bool
    ) -> None:
        events = _listed(given)
        logger.warning(
            "handler_failed: entry %s of %r (%s)%s, attempt %d of %d%s",
            events[0].id,
            events[0].stream,
            events[0].action.operation,
            f" and {len(events) - 1} more of a batch" if len(events) > 1 else "",
            attempt,
            self._retry.attempts,
            ", given up" if final and self._on_failure == "skip" and self._bury is None else "",
            exc_info=error,
        )
        for event in events:
            self._observers.notify("handler_failed", HandlerFailedDetails(event, attempt, error, final))


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _listed(given: Event | Sequence[Event]) -> Sequence[Event]:
    return [given] if isinstance(given, Event) else given
