"""One call of a handler: its time, its further attempts, and what becomes of an event that no attempt handled."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

from .errors import ConfigError, HandlerFailed
from .events import Event
from .hooks import HandlerFailedDetails, Observers, logger
from .policies import Retry, Waits, positive
from .tracing import wrapped

Handler: TypeAlias = "Callable[[Event], Awaitable[Any] | Any]"
OnFailure: TypeAlias = Literal["skip", "raise"]
# Has an event dead-lettered: what its handler raised last, and how often it was called.
Bury: TypeAlias = "Callable[[Event, BaseException, int], Awaitable[None]]"


class Dispatch:
    """Calls a handler for one event after another.

    Args:
        handler: a plain function or a coroutine function.
        retry: how often it is called for one event.
        timeout: seconds that one call may take; a plain function cannot be interrupted.
        on_failure: what becomes of an event that no attempt handled.
        observers: who is told.
        name: of the subscriber, or of the group.
        bury: where "skip" means the dead letters, what appends to them.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        retry: Retry,
        timeout: float | None,
        on_failure: OnFailure,
        observers: Observers,
        name: str = "",
        bury: Bury | None = None,
    ) -> None:
        if not callable(handler) or inspect.isasyncgenfunction(handler):
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
        self.retried: int = 0

    async def handle(self, event: Event) -> bool:
        """Call the handler until it returns. Gives whether the event is done with; it is given up where not.

        Raises:
            HandlerFailed: no attempt handled the event, and `on_failure="raise"`.
            DeadLetterLimitReached: nor may it be dead-lettered.
        """
        retry = self._retry
        waits: Waits | None = None
        attempt = 1
        while (error := await self._call(event)) is not None:
            final = attempt == retry.attempts or not retry.covers(error)
            self._report(event, attempt, error, final)
            if final:
                return await self._fail(event, error, attempt)
            attempt += 1
            self.retried += 1
            waits = waits or Waits(retry.initial, retry.maximum)
            await asyncio.sleep(waits.next())
        return True

    async def _fail(self, event: Event, error: BaseException, attempts: int) -> bool:
        if self._on_failure == "raise":
            raise HandlerFailed(event.stream, event.id, event.action.operation, attempts) from error
        if self._bury is None:
            return False
        await self._bury(event, error, attempts)
        return True

    async def _call(self, event: Event) -> BaseException | None:
        """One attempt: what it raised, or None. Only the cancellation of this task itself goes through."""
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        try:
            result = self._handler(event)
            if inspect.isawaitable(result):
                async with asyncio.timeout(self._timeout):
                    await result
        except asyncio.CancelledError as error:
            if task.cancelling() > cancelled_before:
                raise
            return error  # something that the handler awaited was cancelled, not this subscriber
        except Exception as error:
            return error
        return None

    def _report(self, event: Event, attempt: int, error: BaseException, final: bool) -> None:
        logger.warning(
            "handler_failed: entry %s of %r (%s), attempt %d of %d%s",
            event.id,
            event.stream,
            event.action.operation,
            attempt,
            self._retry.attempts,
            ", given up" if final and self._on_failure == "skip" and self._bury is None else "",
            exc_info=error,
        )
        self._observers.notify("handler_failed", HandlerFailedDetails(event, attempt, error, final))
