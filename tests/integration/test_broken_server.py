"""A server that answers with what is no answer, be it broken or hostile: the connection ends, and that is all."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

import consuming
from histories import History, numbered, stored_ids
from listening import listening
from mainflux_events import Backoff, Publisher, Subscriber
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

STREAM = "things"
SHORT = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", SHORT)
    monkeypatch.setattr("mainflux_events.service.PATIENCE", 0.1)
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 20)


pytestmark = pytest.mark.usefixtures("nothing_unforeseen")


class Breakable:
    """Stands in front of a server. While `says` is set, that is said in place of each answer of the server.

    Attributes:
        port: where it listens on 127.0.0.1.
        says: what it says, None for what the server does.
        said: how often it was said.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.port = 0
        self.says: bytes | None = None
        self.said = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def has_been_heard(self, retries: Callable[[], int]) -> None:
        """Wait until it was said twice, and tried again since: a busy machine has more of that, for its own reasons."""
        await wait_until(lambda: self.said >= 2)
        before = retries()
        await wait_until(lambda: retries() > before)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server.socket)

        async def answer() -> None:
            while data := await from_server.read(65536):
                if self.says is not None:
                    self.said += 1
                    data = self.says
                writer.write(data)

        answering = asyncio.create_task(answer())
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                to_server.write(data)
        to_server.close()
        await answering


@pytest.fixture
async def breakable(fresh_server: RedisServer) -> AsyncIterator[Breakable]:
    between = Breakable(fresh_server)
    async with listening(between.serve) as between.port:
        yield between
        await wait_until(lambda: len(asyncio.all_tasks()) == 1, what="nobody is connected any more")


NONSENSE = {
    "bytes": bytes(range(256)),
    "HTTP": b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    "half a reply": b"$100\r\nabc",
    "gigabytes to come": b"$9999999999\r\nabc",
    "a million to come": b"*1000000\r\n",
    "too many to come": b"*4294967295\r\n",
    "a length that is none": b"$12x\r\n",
    "a negative length": b"*-2\r\n",
    "arrays in arrays": b"*1\r\n" * 1000,
    "a map with a key that is none": b"%1\r\n*1\r\n:1\r\n:1\r\n",
    "a line without end": b"+" + b"x" * 100_000,
    "an error without end": b"-ERR Error running script " + b"ERR Error running script " * 10_000 + b"\r\n",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_a_publisher_gets_over_nonsense(
    nonsense: bytes, breakable: Breakable, fresh_server: RedisServer
) -> None:
    history = History()
    settings: dict[str, Any] = {"attempt_timeout": 0.1, "backoff": SHORT, "hooks": history.recorder}
    async with Publisher(breakable.url, STREAM, **settings) as publisher:
        breakable.says = nonsense
        history.publish(publisher, 10)
        await breakable.has_been_heard(lambda: len(history.recorder.retries))
        breakable.says = None
        await publisher.flush(PATIENCE)
    async with Redis.from_url(fresh_server.url) as client:
        history.check(publisher, await stored_ids(client, STREAM), duplicates=10 * publisher.stats.retries)
    assert publisher.stats.acknowledged == 10


# Replies, as many as a batch of two events has, that are no answers to it.
NO_ANSWERS = {
    "numbers": b":1\r\n" * 4,
    "nothing": b"$-1\r\n" * 4,
    "all is well": b"+OK\r\n" * 4,
    "a result that is none": b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n",
    "results that are no IDs": b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:2\r\n",
    "too few results": b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n$3\r\n1-1\r\n",
    "too many results": b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$3\r\n1-1\r\n$3\r\n1-2\r\n$3\r\n1-3\r\n",
    "results in results": b"*1\r\n*1\r\n*2\r\n$3\r\n1-1\r\n$3\r\n1-2\r\n" * 4,
}


# And one, as a script has it.
NO_ANSWER = {
    "a number": b":1\r\n",
    "nothing in an array": b"*0\r\n",
    "a number in an array": b"*2\r\n:1\r\n:2\r\n",
    "IDs out of nowhere": b"$25\r\n1 1 999 1526919030474-0+1\r\n",
    "IDs without end": b"$36\r\n1 1 999 1526919030474-0+999999999999\r\n",
    "numbers without end": b"$9004\r\n" + b"9" * 9000 + b" 1 1\r\n",
}


@pytest.mark.parametrize(
    ("idempotent", "nonsense"),
    [(False, each) for each in NO_ANSWERS.values()] + [(True, each) for each in NO_ANSWER.values()],
    ids=[*NO_ANSWERS, *NO_ANSWER],
)
async def test_a_publisher_takes_no_nonsense_for_an_answer(
    idempotent: bool, nonsense: bytes, breakable: Breakable, fresh_server: RedisServer
) -> None:
    history = History()
    settings: dict[str, Any] = {"attempt_timeout": 0.1, "backoff": SHORT, "hooks": history.recorder}
    async with Publisher(breakable.url, STREAM, idempotent=idempotent, **settings) as publisher:
        breakable.says = nonsense
        history.publish(publisher, 2)
        await breakable.has_been_heard(lambda: len(history.recorder.retries))
        breakable.says = None
        await publisher.flush(PATIENCE)
    async with Redis.from_url(fresh_server.url) as client:
        history.check(publisher, await stored_ids(client, STREAM), duplicates=2 * publisher.stats.retries)
    assert publisher.stats.acknowledged == 2


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_a_subscriber_gets_over_nonsense(
    nonsense: bytes, breakable: Breakable, fresh_server: RedisServer
) -> None:
    seen = consuming.Recorder()
    async with Redis.from_url(fresh_server.url) as client:
        await consuming.append(client, "t1")
        async with Subscriber(breakable.url, STREAM, "audit", start="earliest", hooks=seen) as subscriber:
            assert await consuming.take(subscriber, 1) == ["t1"]
            breakable.says = nonsense
            await breakable.has_been_heard(lambda: len(seen.of("retrying")))
            breakable.says = None
            await consuming.append(client, "t2")
            async with asyncio.timeout(PATIENCE):
                assert await consuming.take(subscriber, 2) == ["t1", "t2"]


@pytest.mark.parametrize("announced", [b"*50000000\r\n", b"$999999999\r\nabc"], ids=["replies", "bytes"])
async def test_what_is_announced_takes_no_memory_before_it_comes(
    announced: bytes, breakable: Breakable
) -> None:
    settings: dict[str, Any] = {"attempt_timeout": 0.1, "backoff": SHORT, "close_timeout": 0.1}
    async with Publisher(breakable.url, STREAM, **settings) as publisher:
        breakable.says = announced
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        publisher.publish_nowait(numbered(1))
        await breakable.has_been_heard(lambda: publisher.stats.retries)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"
