"""A server that answers one command with what is no answer to it: that is reported, and got over, and nothing is lost.

What is an answer, and what is none, is in ``tests/unit/test_answers.py``; here is what comes of it, for every command
that the two kinds of subscriber send.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import hiredis
import pytest
from redis.asyncio import Redis

import consuming
from consuming import STREAM
from histories import History, stored_ids
from listening import listening
from mainflux_events import Backoff, Event, GroupSubscriber, Publisher, Retry, Subscriber
from mainflux_events.groups import Member
from mainflux_events.idempotent import CLAIM_SCRIPT
from mainflux_events.lease import ACQUIRE_SCRIPT, CHECK_SCRIPT, RENEW_SCRIPT
from mainflux_events.moves import COMMIT_SCRIPT, QUIET_SCRIPT
from mainflux_events.resp import bulk_strings
from mainflux_events.testing import RedisServer
from support import PATIENCE, wait_until

SHORT = Backoff(initial=0.002, maximum=0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainflux_events.service.BACKOFF", SHORT)
    monkeypatch.setattr("mainflux_events.reader.BLOCK_MS", 20)
    monkeypatch.setattr("mainflux_events.join.BLOCK_MS", 20)
    monkeypatch.setattr("mainflux_events.tenure.ASK_EVERY", 0.01)
    monkeypatch.setattr("mainflux_events.tenure.RENEW_EVERY", 0.01)
    monkeypatch.setattr("mainflux_events.claims.SWEEP_EVERY", 0.01)


pytestmark = pytest.mark.usefixtures("nothing_unforeseen")


def _script(packed: bytes) -> bytes:
    return bulk_strings(packed, packed.index(b"\r\n") + 2)[1]


_MEMBER = Member("", "", "")
SCRIPTS = {
    COMMIT_SCRIPT.encode(): "commit",
    QUIET_SCRIPT.encode(): "commit quietly",
    CHECK_SCRIPT.encode(): "lease check",
    ACQUIRE_SCRIPT.encode(): "lease acquire",
    RENEW_SCRIPT.encode(): "lease renew",
    CLAIM_SCRIPT.encode(): "claim",
    _script(_MEMBER.renew([])): "group renew",
    _script(_MEMBER.count(b"", 0)): "group count",
    _script(_MEMBER.leave([])): "group leave",
    _script(_MEMBER.sweep(0)): "group sweep",
}


def name_of(words: list[bytes]) -> str:
    """What a command is called here; scripts by what they do, the others but for dead letters."""
    name, *rest = words
    if name == b"EVAL":
        return SCRIPTS.get(rest[0], "dead letter")
    two = name in (b"XINFO", b"XGROUP")
    return b" ".join([name, rest[0]] if two else [name]).decode()


class Liar:
    """Stands in front of a server. Instead of its next answers to one command, something else is said, each once.

    Attributes:
        port: where it listens on 127.0.0.1.
        about: the command.
        lies: what is still to be said of it.
        hangs_up: whether it closes the connection after that.
        asked: how often each command came.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.port = 0
        self.about = ""
        self.lies: list[bytes] = []
        self.hangs_up = False
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server.socket)
        parser, silent = hiredis.Reader(), 0
        try:
            with contextlib.suppress(OSError, EOFError):
                while data := await reader.read(65536):
                    parser.feed(data)
                    while (words := parser.gets()) is not False:
                        to_server.write(hiredis.pack_command(tuple(words)))
                        if words == [b"CLIENT", b"REPLY", b"SKIP"]:
                            silent = 2  # this one and the next have no answer
                        if silent:
                            silent -= 1
                            continue
                        name = name_of(words)
                        writer.write(self._instead(name, await _reply(from_server)))
                        if name == self.about and self.hangs_up:
                            raise EOFError
        finally:
            to_server.close()

    def _instead(self, name: str, reply: bytes) -> bytes:
        self.asked[name] += 1
        return self.lies.pop(0) if name == self.about and self.lies else reply


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """The next reply, as it comes."""
    parser, come = hiredis.Reader(), b""
    while parser.gets() is False:
        data = await reader.read(65536)
        if not data:
            raise EOFError
        parser.feed(data)
        come += data
    return come


@pytest.fixture
async def liar(fresh_server: RedisServer) -> AsyncIterator[Liar]:
    between = Liar(fresh_server)
    async with listening(between.serve) as between.port:
        yield between


@pytest.fixture
async def client(fresh_server: RedisServer) -> AsyncIterator[Redis]:
    """The truth."""
    async with Redis.from_url(fresh_server.url) as client:
        yield client


LIES = {
    "a number in an array": b"*1\r\n:7\r\n",
    "a number": b":7\r\n",
    "nothing": b"$-1\r\n",
    "a line": b"+so so\r\n",
    "an empty array": b"*0\r\n",
    "nothing in an array": b"*1\r\n$-1\r\n",
    "arrays in arrays": b"*1\r\n*2\r\n*1\r\n*1\r\n:7\r\n*0\r\n",
    "a map": b"%1\r\n$6\r\nthings\r\n*0\r\n",
    "a push": b">2\r\n$6\r\nthings\r\n*0\r\n",
    "nothing in an entry": b"*1\r\n*2\r\n$6\r\nthings\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$-1\r\n",
}

# So often something happens that makes a subscriber send each of its commands, but for those of the start.
ROUNDS = 3

# What of that is believed, because a server may say it, and has to be: that a cursor is none, that a key is of another
# type, and that what was taken over is not there any more.
BELIEVED = {"GET": {"a line"}, "TYPE": {"a line"}, "XCLAIM": {"an empty array", "nothing in an array"}}


def lies_about(command: str) -> list[bytes]:
    return [lie for name, lie in LIES.items() if name not in BELIEVED.get(command, ())]


class Consumption:
    """A subscriber that handles events, but for some that cannot be; which become dead letters.

    Attributes:
        subscriber, seen: the subscriber, and what it reports.
        handled: the things whose events were handled.
    """

    def __init__(self, liar: Liar, grouped: bool) -> None:
        self._renewed: Callable[[], int] = lambda: liar.asked["group renew" if grouped else "lease renew"]
        self.seen = consuming.Recorder()
        self.handled: set[str] = set()
        settings: dict[str, Any] = {"start": "earliest", "dead_letter": "dead", "hooks": self.seen}
        self.subscriber: Subscriber | GroupSubscriber
        if grouped:
            self.subscriber = GroupSubscriber(liar.url, STREAM, "mailers", claim_after=0.06, **settings)
        else:
            self.subscriber = Subscriber(liar.url, STREAM, "audit", exclusive="standby", **settings)

    async def __aenter__(self) -> Consumption:
        await self.subscriber.start()
        self._task = asyncio.create_task(self.subscriber.run(self._handle, retry=Retry(attempts=1)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.subscriber.aclose()
        await self._task

    async def _handle(self, event: Event) -> None:
        thing = consuming.thing(event)
        if thing.startswith("bad"):
            raise ValueError(thing)
        before = self._renewed()
        await wait_until(lambda: self._renewed() > before)  # of a group, what is in hand
        self.handled.add(thing)

    @property
    def reasons(self) -> list[str]:
        return [details.reason for details in self.seen.of("retrying")]


async def _left_by_another(client: Redis, thing: str) -> None:
    """An entry that a consumer was given which is not there any more."""
    await client.xgroup_create(STREAM, "mailers", "0", mkstream=True)
    await consuming.append(client, thing)
    await client.xreadgroup("mailers", "ghost", {STREAM: ">"})


@pytest.mark.parametrize(
    ("grouped", "command"),
    [
        *(
            (False, command)
            for command in (
                "TYPE", "GET", "XREAD", "XINFO STREAM", "commit", "commit quietly", "EVALSHA", "dead letter",
                "lease check", "lease acquire", "lease renew",
            )
        ),
        *(
            (True, command)
            for command in (
                "TYPE", "XINFO STREAM", "XINFO GROUPS", "XGROUP CREATE", "XREADGROUP", "XACK", "dead letter",
                "XAUTOCLAIM", "XPENDING", "XCLAIM", "group renew", "group count", "group sweep",
            )
        ),
    ],
)  # fmt: skip
async def test_a_subscriber_gets_over_lies(
    grouped: bool, command: str, liar: Liar, client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    things, bad = set(), set()
    if grouped:
        await _left_by_another(client, "left")
        things.add("left")
    liar.about, liar.lies = command, lies_about(command)
    async with Consumption(liar, grouped) as consumption:

        async def all_done() -> bool:
            dead = {fields[b"id"].decode() for _, fields in await client.xrange("dead")}
            return consumption.handled >= things and dead >= bad

        for number in range(ROUNDS):
            things.add(f"t{number}")
            bad.add(f"bad{number}")
            await consuming.append(client, f"t{number}", f"bad{number}")
            await wait_until(all_done, what=f"{command}, {liar.lies} left; {consumption.reasons[-3:]}")
            if command == "GET":
                await client.client_kill_filter(
                    _type="normal", skipme=True
                )  # over a new connection it is sent again
        dead = [fields[b"id"].decode() for _, fields in await client.xrange("dead")]
        assert sorted(dead) == sorted(bad), "each once"
    if command in ("group count", "commit quietly"):
        assert liar.asked[command], "nobody relies on what that is answered"
    else:
        assert "NONSENSE the server sent what is no answer to" in caplog.text


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_lie_at_the_end_keeps_nobody_from_closing(lie: bytes, liar: Liar, client: Redis) -> None:
    await consuming.append(client, "t1")
    async with Consumption(liar, grouped=True) as consumption:
        await wait_until(lambda: consumption.handled == {"t1"})
        liar.about, liar.lies = "group leave", [lie]
    assert liar.lies == []


async def test_a_server_that_hangs_up_whenever_a_sequence_is_claimed_is_not_asked_at_once_again(
    liar: Liar, client: Redis
) -> None:
    history = History()
    settings: dict[str, Any] = {"idempotent": True, "backoff": SHORT, "hooks": history.recorder}
    async with Publisher(liar.url, STREAM, **settings) as publisher:
        history.publish(publisher, 3)
        await publisher.flush(PATIENCE)
        liar.about, liar.hangs_up = "claim", True
        await client.client_kill_filter(_type="normal", skipme=True)
        before = liar.asked["claim"]
        history.publish(publisher, 3)
        await wait_until(lambda: len(history.recorder.retries) >= 4)
        assert liar.asked["claim"] - before <= 1 + len(history.recorder.retries)
        liar.hangs_up = False
        await publisher.flush(PATIENCE)
    history.check(publisher, await stored_ids(client, STREAM), duplicates=0)
    assert publisher.stats.acknowledged == 6
