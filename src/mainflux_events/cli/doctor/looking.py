"""What the checks need to know, asked of the server; none of it changes anything.

What the user may not ask is None, and the rest is asked all the same.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

import msgspec

from ...cursor import cursor_key
from ...errors import AccessRefused, EventsError
from ...gaps import Extent
from ...idempotent import SEQUENCES, sequence_key
from ...link import Reply
from ...refusals import Refusal
from ..behind import Behind, look
from ..server import Server, Words, command_name
from ..survey import cursors_there
from .stream_checks import Trial

_SETTINGS = ("appendfsync", "save", "min-replicas-to-write")


class Facts(msgspec.Struct, frozen=True):
    """What the server says of itself.

    Attributes:
        seconds: how long an answer takes.
        info: what INFO says.
        config: what CONFIG GET says.
        cluster_state: what CLUSTER INFO says, in a cluster.
        ahead: how many seconds its clock is ahead of the one here.
        now_ms: its time, in milliseconds.
    """

    seconds: float
    info: Mapping[str, str] | None
    config: Mapping[str, str] | None
    cluster_state: str | None
    ahead: float | None
    now_ms: int | None


async def ask_server(server: Server) -> Facts:
    """Ask the server of itself."""
    began = time.time()
    _, now = await server.ask_all([("PING",), ("TIME",)])
    seconds = time.time() - began
    info, *settings = await server.ask_all([("INFO",), *(("CONFIG", "GET", name) for name in _SETTINGS)])
    about = lines_of(info)
    state: Mapping[str, str] | None = None
    if about is not None and about.get("cluster_enabled") == "1":
        [reply] = await server.ask_all([("CLUSTER", "INFO")])
        state = lines_of(reply)
    now_ms = int(now[0]) * 1000 + int(now[1]) // 1000 if isinstance(now, list) else None
    return Facts(
        seconds,
        about,
        _config(settings),
        None if state is None else state.get("cluster_state"),
        None if now_ms is None else now_ms / 1000 - (began + seconds / 2),
        now_ms,
    )


def lines_of(reply: Reply) -> Mapping[str, str] | None:
    """What INFO and CLUSTER INFO say, by its names; None where they are refused."""
    if not isinstance(reply, bytes):
        return None
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _config(replies: Sequence[Reply]) -> Mapping[str, str] | None:
    if any(isinstance(reply, Refusal) for reply in replies):
        return None
    pairs = [reply for reply in replies if isinstance(reply, list) and len(reply) == 2]
    return {name.decode(): value.decode("utf-8", "replace") for name, value in pairs}


async def ask_stream(server: Server, stream: str) -> tuple[Extent | None, str]:
    """What is there of a stream; and the type of the key, "" where that may not be asked."""
    kind, info = await server.ask_all([("TYPE", stream), ("XINFO", "STREAM", stream)])
    try:
        extent = Extent.of(info)
    except Refusal:
        extent = None
    return extent, kind.decode() if isinstance(kind, bytes) else ""


async def ask_readers(server: Server, stream: str, name: str) -> list[Behind] | str:
    """Who reads a stream; or the rights that are missing.

    Args:
        server, stream: where.
        name: a subscriber; without, all that have a cursor are looked for.
    """
    try:
        cursors = [(name, stream)] if name else await cursors_there(server)
    except AccessRefused:
        return "+scan (or say its --name)"
    try:
        found = await look(server, [stream], cursors)
    except AccessRefused:
        return f"+xinfo +xpending +get +xread on {stream!r} and on {cursor_key('*', stream)!r}"
    except EventsError:
        return f"what lag needs on {stream!r}"
    return [each for each in found if each.kind != "consumer"]


async def try_rights(server: Server, stream: str, name: str) -> list[Trial]:
    """What the user may do with a stream: by commands that the server refuses, or that concern nothing."""
    cursor, group, nobody = cursor_key(name or "doctor", stream), secrets.token_hex(8), "doctor"
    sequence = sequence_key(group, stream)
    script: list[Words] = [("EVAL", "return 0", 0), ("EVALSHA", "0" * 40, 0)]
    wanted: list[tuple[str, str, list[Words]]] = [
        (
            "publish",
            f"~{stream} +xadd +multi +exec",
            [("MULTI",), ("EXEC",), ("XADD", stream, "NOMKSTREAM", "0-0", "probe", "")],
        ),
        (
            "publish with idempotent=True",
            f"~{stream} ~{SEQUENCES} +xadd +eval +evalsha +get +set",
            [
                ("XADD", stream, "NOMKSTREAM", "0-0", "probe", ""),
                ("GET", sequence),
                ("SET", sequence, "", "NX", "XX"),
                *script,
            ],
        ),
        (
            "subscribe" + (f" as {name}" if name else ""),
            f"~{stream} ~{cursor_key(name or '*', '*')} +xread +xinfo +type +get +set +eval +evalsha",
            [
                ("XREAD", "COUNT", 1, "STREAMS", stream, "$"),
                ("XINFO", "STREAM", stream),
                ("TYPE", stream),
                ("GET", cursor),
                ("SET", cursor, "", "NX", "XX"),
                *script,
            ],
        ),
        (
            "consume in a group",
            f"~{stream} +xreadgroup +xgroup +xack +xautoclaim +xclaim +xpending +xinfo +type +eval",
            [
                ("XREADGROUP", "GROUP", group, nobody, "COUNT", 1, "STREAMS", stream, "0-1"),
                ("XGROUP", "DESTROY", stream, group),
                ("XACK", stream, group, "0-1"),
                ("XAUTOCLAIM", stream, group, nobody, 1, "0-0"),
                ("XCLAIM", stream, group, nobody, 1, "0-1"),
                ("XPENDING", stream, group),
                ("XINFO", "GROUPS", stream),
                ("TYPE", stream),
                script[0],
            ],
        ),
    ]
    replies = iter(await server.ask_all([words for _, _, commands in wanted for words in commands]))
    return [
        Trial(what, [command_name(words) for words in commands if _refused(next(replies))], rights)
        for what, rights, commands in wanted
    ]


def _refused(reply: Reply) -> bool:
    return isinstance(reply, Refusal) and reply.access
