"""What an application of any framework runs: its publisher, and subscribers with their handlers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from ..consumer import Consumer
from ..dispatch import Handler
from ..events import Identity, acting_as
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

    def __init__(self, publisher: Publisher | None, subscribers: Sequence[Consumer]) -> None:
        self.publisher = publisher
        self.subscribers = subscribers


@asynccontextmanager
async def running(publisher: MakePublisher | None, consume: Sequence[Consume]) -> AsyncIterator[Running]:
    """Start what is given, and close it at the end: first the subscribers, whose handlers may publish.

    A subscriber whose `run` ends with an error is reported in the log then, and raises at the end.
    """
    async with AsyncExitStack() as stack:
        publishing = await stack.enter_async_context(publisher()) if publisher is not None else None
        subscribers = []
        for each in consume:
            subscriber = each.subscriber()
            subscribers.append(subscriber)
            await stack.enter_async_context(_consuming(subscriber, each))
        yield Running(publishing, subscribers)


@asynccontextmanager
async def _consuming(subscriber: Consumer, how: Consume) -> AsyncIterator[None]:
    async with subscriber:
        task = asyncio.create_task(subscriber.run(how.handler, **how.options))
        task.add_done_callback(_report)
        try:
            yield
        except BaseException:
            task.remove_done_callback(_report)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            raise
    await task  # closing has ended it


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("consumer_died: nothing is handled any more", exc_info=error)


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
