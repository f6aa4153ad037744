"""Moving a cursor or a group, which is for operators only: what would come of it, and the step itself.

A reader that runs goes on where it is, and stores that. So where one is noticed nothing is moved: by its lease, by the
consumers of a group that asked for something lately, or because the place itself moves. The step looks again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from ..cursor import Start, cursor_key, padded, parse_id, resolve_start, stored_cursor
from ..errors import CursorCorrupt, EventsError
from ..gaps import Extent
from ..groups import GIVEN_BACK
from ..lease import lease_key
from ..link import Reply
from ..refusals import Refusal
from ..values import text_of
from .behind import count_between
from .server import Server, named

# A consumer that asked for something in the last so many milliseconds is there. One that waits asks each second.
THERE_MS: Final = 5000

# KEYS the cursor, and its lease; ARGV what is expected there, and the new ID. Gives why not, or nil.
_SEEK: Final = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 'LEASE' end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'MOVED' end
redis.call('SET', KEYS[1], ARGV[2])
return false
"""

# KEYS the stream; ARGV the group, what is expected there, the new ID, milliseconds, and a consumer that is nobody.
_SEEK_GROUP: Final = """
local function named(row)
  local found = {}
  for i = 1, #row, 2 do found[row[i]] = row[i + 1] end
  return found
end
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = named(row)
  if consumer.idle < tonumber(ARGV[4]) and consumer.name ~= ARGV[5] then return 'CONSUMER ' .. consumer.name end
end
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(row)
  if group.name == ARGV[1] and group['last-delivered-id'] ~= ARGV[2] then return 'MOVED' end
end
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[3])
return false
"""


class Seek(msgspec.Struct, frozen=True):
    """A place that is to be moved.

    Attributes:
        stream: the key of the stream.
        kind, name: what reads there.
        before: what is stored now; of a corrupt cursor, whatever that is.
        after: the ID that will be.
        entries: how many entries are between the two; None where that makes no sense.
        whole: whether it is just so many, not more.
    """

    stream: str
    kind: Literal["subscriber", "group"]
    name: str
    before: bytes
    after: str
    entries: int | None = None
    whole: bool = True

    @property
    def direction(self) -> Literal["back", "forward", "nowhere", "out of nowhere"]:
        """Where to it moves."""
        before = self.before.decode("ascii", "replace")
        if parse_id(before) is None:
            return "out of nowhere"
        here, there = padded(before), padded(self.after)
        return "nowhere" if here == there else "back" if there < here else "forward"

    def __str__(self) -> str:
        count = "" if self.entries is None else f"{self.entries:,}{'' if self.whole else ' or more'} "
        entries = "entry" if self.entries == 1 and self.whole else "entries"
        outcome = {
            "back": f"back, {count}{entries} will be handled again",
            "forward": f"forward, {count}{entries} will not be handled",
            "nowhere": "it is there already",
            "out of nowhere": "what is stored is no place",
        }[self.direction]
        before = text_of(self.before[:40])
        return f"{self.kind} {self.name} of {self.stream}: from {before} to {self.after}: {outcome}"


def busy(seek: Seek, why: str) -> str:
    """Why it was not moved, in words."""
    what = f"{seek.kind} {seek.name} of {seek.stream}"
    reason, _, consumer = why.partition(" ")
    told = {
        "LEASE": "a subscriber that is exclusive, or on standby, reads under this name: end all of them first, and "
        "wait for 5 s where one was killed",
        "CONSUMER": f"the consumer {consumer} asked for entries less than {THERE_MS // 1000} s ago: end all consumers "
        "first",
        "MOVED": "it was moved in the meantime, so somebody reads: end that first",
    }[reason]
    return f"{what} was not moved: {told}"


# --- asking ---------------------------------------------------------------------------------------------------------


async def plan(
    server: Server, name: str, streams: Sequence[str], to: Start, now: datetime, *, group: bool
) -> list[Seek]:
    """What would be moved: the subscriber, or the group, of each stream where it is.

    Raises:
        EventsError: the place is ahead of a stream, or the server refuses.
    """
    found = []
    for stream in streams:
        before = await (_group(server, stream, name) if group else _cursor(server, stream, name))
        if before is None:
            continue
        extent = Extent.of(await _info(server, stream))
        after = resolve_start(to, extent.last_id, now)
        if isinstance(to, str) and padded(after) > padded(extent.last_id):
            raise EventsError(f"{stream} ends at {extent.last_id}, before {after}: to go to its end, say new")
        seek = Seek(stream, "group" if group else "subscriber", name, before, after)
        found.append(await _counted(server, seek))
    return found


async def _cursor(server: Server, stream: str, name: str) -> bytes | None:
    key = cursor_key(name, stream)
    [reply] = await server.ask_all([("GET", key)])
    if isinstance(reply, Refusal) and reply.code != "WRONGTYPE":
        raise server.refused(reply, ("GET",))
    try:
        stored_cursor(key, reply)
    except CursorCorrupt:
        if not isinstance(reply, bytes):
            raise
    assert reply is None or isinstance(reply, bytes)
    return reply


async def _group(server: Server, stream: str, name: str) -> bytes | None:
    [reply] = await server.ask_all([("XINFO", "GROUPS", stream)])
    if isinstance(reply, Refusal) and "no such key" in reply.text:
        return None
    if isinstance(reply, Refusal):
        raise server.refused(reply, ("XINFO", "GROUPS"))
    assert isinstance(reply, list)
    for each in map(named, reply):
        if text_of(each["name"]) == name:
            return bytes(each["last-delivered-id"])
    return None


async def _info(server: Server, stream: str) -> Reply:
    [reply] = await server.ask_all([("XINFO", "STREAM", stream)])
    if isinstance(reply, Refusal) and "no such key" not in reply.text:
        raise server.refused(reply, ("XINFO", "STREAM"))
    return reply


async def _counted(server: Server, seek: Seek) -> Seek:
    if seek.direction not in ("back", "forward"):
        return seek
    before = seek.before.decode()
    ends = (seek.after, before) if seek.direction == "back" else (before, seek.after)
    entries, whole = await count_between(server, seek.stream, *ends)
    return msgspec.structs.replace(seek, entries=entries, whole=whole)


async def apply(server: Server, seek: Seek) -> str:
    """Move it. Gives why it was not moved, "" where it was.

    Raises:
        EventsError: the server refuses.
    """
    reply: Any
    if seek.kind == "group":
        arguments = (seek.name, seek.before, seek.after, THERE_MS, GIVEN_BACK)
        reply = await server.ask("EVAL", _SEEK_GROUP, 1, seek.stream, *arguments)
    else:
        key = cursor_key(seek.name, seek.stream)
        reply = await server.ask("EVAL", _SEEK, 2, key, lease_key(key), seek.before, seek.after)
    return text_of(reply) if isinstance(reply, bytes) else ""
