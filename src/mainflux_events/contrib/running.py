"""What an application of any framework runs: its publisher, and subscribers with their handlers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import msgspec

from ..consumer import Consumer
from ..dispatch import Handler
from ..events import Identity, acting_as
from ..health import MAX_STALL, SubscriberHealth
from ..hooks import logger
from ..publisher import Publisher

# What makes a publisher or a subscriber. They are used once, and an application may be started several times.
MakePublisher: TypeAlias = Callable[[], Publisher]
MakeSubscriber: TypeAlias = Callable[[], Consumer]

Who: TypeAlias = "Identity | None"


class Consume:
    """A subscriber that an application runs, and its handler.

    Args:
        subscriber: makes the subscriber.
        handler: what it calls for each event; a plain function or a coroutine function.
        **options: those of `run`.
    """

    def __init__(self, subscriber: MakeSubscriber, handler: Handler, **options: Any) -> None:
        self.subscriber = subscriber
        self.handler = handler
        self.options = options


class Running:
    """What an application has running.

    Attributes:
        publisher: the publisher; None where the application has none.
        subscribers: those that consume.
    """

    def __init__(
        self, publisher: Publisher | None, consuming: Mapping[Consumer, asyncio.Task[None]] | None = None
    ) -> None:
        self.publisher = publisher
        self._consuming = consuming or {}
        self.subscribers: Sequence[Consumer] = list(self._consuming)

    def health(self, max_stall: float = MAX_STALL) -> tuple[bool, dict[str, Any]]:
        """Whether all of them get on, and how each does, as what JSON can hold.

        Args:
            max_stall: as of their `health`, in seconds.
        """
        found = [self._health_of(subscriber, max_stall) for subscriber in self._consuming]
        report: dict[str, Any] = {"subscribers": [msgspec.to_builtins(each) for each in found]}
        healthy = all(each.healthy for each in found)
        if self.publisher is not None:
            publisher = self.publisher.health(max_stall=max_stall)
            healthy = healthy and publisher.healthy
            report["publisher"] = msgspec.to_builtins(publisher)
        return healthy, {"healthy": healthy, **report}

    def _health_of(self, subscriber: Consumer, max_stall: float) -> SubscriberHealth:
        found = subscriber.health(max_stall=max_stall)
        run = self._consuming[subscriber]
        if not run.done() or not found.healthy:
            return found
        error = None if run.cancelled() else run.exception()
        reason = (
            f"nothing is handled any more: {type(error).__name__}: {error}" if error else "its run has ended"
        )
        return msgspec.structs.replace(found, healthy=False, reason=reason)


@asynccontextmanager
async def running(publisher: MakePublisher | None, consume: Sequence[Consume]) -> AsyncIterator[Running]:
    """Start what is given, and close it at the end: first the subscribers, whose handlers may publish.

    A subscriber whose `run` ends with an error is reported in the log then, and raises at the end.
    """
    async with AsyncExitStack() as stack:
        publishing = await stack.enter_async_context(publisher()) if publisher is not None else None
        consuming = {}
        for each in consume:
            subscriber = each.subscriber()
            consuming[subscriber] = await stack.enter_async_context(_consuming(subscriber, each))
        yield Running(publishing, consuming)


@asynccontextmanager
async def _consuming(subscriber: Consumer, how: Consume) -> AsyncIterator[asyncio.Task[None]]:
    async with subscriber:
        task = asyncio.create_task(subscriber.run(how.handler, **how.options))
        task.add_done_callback(_report)
        try:
            yield task
        except BaseException:  # a cancellation too: handling ends with the application
            task.cancel()
            await asyncio.wait([task])  # of an error `_report` tells
            raise
    await task  # closing has ended it


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("consumer_died: nothing is handled any more", exc_info=error)


def publisher_in(parts: Running) -> Publisher:
    """The publisher that is running. Raises RuntimeError where the lifespan was given none."""
    if parts.publisher is None:
        raise RuntimeError("there is no publisher: events_lifespan was given none")
    return parts.publisher


async def identity_of(identify: Callable[[Any], Who | Awaitable[Who]], request: Any) -> Who:
    """Ask who acts. The callable may be a coroutine function."""
    found = identify(request)
    return await found if inspect.isawaitable(found) else found


@contextmanager
def acting_as_found(identity: Who) -> Iterator[None]:
    """`acting_as`, where somebody is known."""
    if identity is None:
        yield
    else:
        with acting_as(identity):
            yield
