"""What the server answers, held against what a Redis server would: the one place where its shape is looked at.

Each function takes the reply to one command and gives what it says. Where that is an error, it is raised; and what is
no answer to this command, as whatever else listens at an address may send, is a `Refusal` too: NONSENSE. It is got
over like any other one: with a report, a wait and another connection.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Final, TypeVar

import msgspec

from .entries import Entries
from .link import Reply
from .refusals import Refusal, nonsense

T = TypeVar("T")

_BYTES: Final = frozenset([bytes])
_ID: Final = re.compile(rb"\d{1,20}-\d{1,20}")
_IDS: Final = re.compile(rb"(?:[0-9]{1,20}+-[0-9]{1,20}+ )*+")


def _understood(form: Any, reply: Reply, to: str) -> Any:
    """The reply, where it is of this type, as msgspec understands it."""
    if isinstance(reply, Refusal):
        raise reply
    try:
        return msgspec.convert(reply, form)
    except msgspec.ValidationError:
        raise nonsense(to) from None


def _check_ids(ids: list[Any], to: str) -> None:
    """Raise for what is no ID among these."""
    try:
        together = b" ".join([*ids, b""])
    except TypeError:
        raise nonsense(to) from None
    if _IDS.fullmatch(together) is None or together.count(b" ") != len(ids):
        raise nonsense(to)


# --- strings and numbers --------------------------------------------------------------------------------------------


def count(reply: Reply) -> int:
    """To the script with which a consumer leaves: how many entries it gave back."""
    found: int = _understood(int, reply, "a script")
    return found


def done(reply: Reply) -> None:
    """To what is answered by OK."""
    _understood(bytes, reply, "a command")


def kind(reply: Reply) -> str:
    """To TYPE: of which type a key is, "none" where it is not there."""
    found: bytes = _understood(bytes, reply, "TYPE")
    return found[:40].decode("ascii", "replace")


def stored(reply: Reply) -> bytes | None:
    """To GET: what is stored, None where nothing is."""
    found: bytes | None = _understood(bytes | None, reply, "GET")
    return found


# Refusals of what follows concern some of what was asked for together. So they are given, not raised.


def moved(reply: Reply) -> Reply:
    """To the script of commits: None, the ID that was found, or an empty one where there was none."""
    found = reply is None or reply == b"" or (isinstance(reply, bytes) and _ID.fullmatch(reply))
    return reply if found or isinstance(reply, Refusal) else nonsense("a commit")


def acknowledged(reply: Reply) -> Reply:
    """To XACK: how many were pending."""
    return reply if type(reply) is int or isinstance(reply, Refusal) else nonsense("XACK")


def appended(reply: Reply) -> Reply:
    """To XADD: the ID of the entry."""
    found = isinstance(reply, bytes) and _ID.fullmatch(reply)
    return reply if found or isinstance(reply, Refusal) else nonsense("XADD")


def flag(reply: Reply) -> Reply:
    """To a script that says whether it has done something: 0 or 1."""
    told = type(reply) is int and 0 <= reply <= 1
    return reply if told or isinstance(reply, Refusal) else nonsense("a script")


def okay(reply: Reply) -> Reply:
    """To a script that gives OK."""
    return reply if isinstance(reply, bytes | Refusal) else nonsense("a script")


def found(reply: Reply) -> Reply:
    """To GET: what is stored, None where nothing is."""
    return reply if reply is None or isinstance(reply, bytes | Refusal) else nonsense("GET")


def left(reply: Reply) -> Reply:
    """To the script that asks for a lease: None, or how many milliseconds are left to somebody else."""
    told = reply is None or type(reply) is int
    return reply if told or isinstance(reply, Refusal) else nonsense("a script")


# --- entries --------------------------------------------------------------------------------------------------------


def _entries(reply: Any, to: str) -> Entries:
    """IDs and fields as entries: all IDs are looked at, and the fields of the first and the last.

    To look at all fields of all entries would cost a twelfth of reading and decoding them. Decoding comes upon what is
    wrong in between; see `sound`.
    """
    if type(reply) is not list:
        raise nonsense(to)
    try:
        found = Entries.of(reply)
    except (TypeError, ValueError):
        raise nonsense(to) from None
    _check_ids(found.ids, to)
    fields = found.fields
    if fields and not (sound(fields[0]) and (len(fields) == 1 or sound(fields[-1]))):
        raise nonsense(to)
    return found


def sound(fields: Any) -> bool:
    """Whether these are names and values in turn."""
    return type(fields) is list and len(fields) % 2 == 0 and _BYTES.issuperset(map(type, fields))


def read(reply: Reply, streams: Container[bytes], to: str) -> dict[bytes, Entries]:
    """To XREAD and XREADGROUP: entries by the stream that they are from.

    Args:
        reply: any.
        streams: the keys of those that were asked for.
        to: the command, for the message.
    """
    if reply is None:
        return {}
    if isinstance(reply, Refusal):
        raise reply
    if type(reply) is not list:
        raise nonsense(to)
    try:
        parts: dict[bytes, Any] = dict(reply)
    except (TypeError, ValueError):
        raise nonsense(to) from None
    found: dict[bytes, Entries] = {}
    for stream, entries in parts.items():
        if stream not in streams:
            raise nonsense(to)
        found[stream] = _entries(entries, to)
    return found


def fetched(reply: Reply) -> Entries:
    """To XCLAIM: entries. Redis 6.2 has nil for those that are not there any more."""
    found = _understood(list[Any], reply, "XCLAIM")
    return _entries([entry for entry in found if entry is not None], "XCLAIM")


# --- groups ---------------------------------------------------------------------------------------------------------


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """The answer to XAUTOCLAIM … JUSTID.

    Attributes:
        place: where the next look goes on.
        ids: what was taken over.
        gone: what was pending and is not in the stream any more; Redis 6.2 does not tell.
    """

    place: bytes
    ids: list[bytes]
    gone: list[bytes] = []


def taken(reply: Reply) -> Taken:
    """To XAUTOCLAIM … JUSTID."""
    found: Taken = _understood(Taken, reply, "XAUTOCLAIM")
    _check_ids([found.place, *found.ids, *found.gone], "XAUTOCLAIM")
    return found


def deliveries(reply: Reply) -> dict[bytes, int]:
    """To XPENDING: how often each entry was delivered."""
    found = _understood(list[tuple[bytes, bytes, int, int]], reply, "XPENDING")
    _check_ids([id for id, *_ in found], "XPENDING")
    return {id: delivered for id, _, _, delivered in found}


def oldest(reply: Reply) -> tuple[int, bytes | None]:
    """To XPENDING without more: how many entries are pending, and the oldest of them."""
    found, first, *_ = _understood(tuple[int, bytes | None, Any, Any], reply, "XPENDING")
    if found and first is None:
        raise nonsense("XPENDING")
    _check_ids([first or b"0-0"], "XPENDING")
    return found, first


def owners(reply: Reply) -> list[tuple[bytes, bytes]]:
    """To the script that renews: entries that are somebody else's, and whose."""
    found: list[tuple[bytes, bytes]] = _understood(list[tuple[bytes, bytes]], reply, "a renewal")
    _check_ids([id for id, _ in found], "a renewal")
    return found


def names(reply: Reply) -> list[bytes]:
    """To the script that removes consumers: their names."""
    found: list[bytes] = _understood(list[bytes], reply, "a script")
    return found


# --- XINFO ----------------------------------------------------------------------------------------------------------


class Stream(msgspec.Struct, frozen=True, gc=False):
    """The answer to XINFO STREAM; counts and deletions are told from Redis 7.0 on."""

    length: int
    last_generated_id: bytes
    first_id: bytes | None
    entries_added: int | None = None
    max_deleted_entry_id: bytes = b"0-0"


class Group(msgspec.Struct, frozen=True, rename="kebab"):
    """One of the answer to XINFO GROUPS; the lag is told from Redis 7.0 on, and not always."""

    name: bytes
    last_delivered_id: bytes
    lag: int | None = None


class Member(msgspec.Struct, frozen=True):
    """One of the answer to XINFO CONSUMERS; idle in milliseconds."""

    name: bytes
    pending: int
    idle: int


_INFO: Final = "XINFO STREAM"
_NUMBER_OR_NONE: Final = (int, type(None))
_NO_STREAM: Final = Stream(0, b"0-0", None, 0)


def stream(reply: Reply) -> Stream:
    """To XINFO STREAM. A stream that is not there is an empty one."""
    if isinstance(reply, Refusal) and "no such key" in reply.text:
        return _NO_STREAM
    if isinstance(reply, Refusal):
        raise reply
    if type(reply) is not list:
        raise nonsense(_INFO)
    try:
        # By hand, where msgspec would need all of the names as strings: it is asked after each read.
        told: dict[bytes, Any] = dict(zip(reply[::2], reply[1::2], strict=True))
        length, last, first = told[b"length"], told[b"last-generated-id"], told[b"first-entry"]
        added, deleted = told.get(b"entries-added"), told.get(b"max-deleted-entry-id", b"0-0")
        oldest, _ = (b"0-0", None) if first is None else first
    except (KeyError, TypeError, ValueError):
        raise nonsense(_INFO) from None
    if type(length) is not int or type(added) not in _NUMBER_OR_NONE:
        raise nonsense(_INFO)
    _check_ids([last, deleted, oldest], _INFO)
    return Stream(length, last, None if first is None else oldest, added, deleted)


def groups(reply: Reply) -> list[Group]:
    """To XINFO GROUPS."""
    told = _understood(list[list[Any]], reply, "XINFO GROUPS")
    found = [_named(Group, each, "XINFO GROUPS") for each in told]
    _check_ids([each.last_delivered_id for each in found], "XINFO GROUPS")
    return found


def members(reply: Reply) -> list[Member]:
    """To XINFO CONSUMERS."""
    told = _understood(list[list[Any]], reply, "XINFO CONSUMERS")
    return [_named(Member, each, "XINFO CONSUMERS") for each in told]


def _named(form: type[T], reply: Reply, to: str) -> T:
    """Names and values in turn, as a struct. What that does not know is passed over."""
    if isinstance(reply, Refusal):
        raise reply
    if type(reply) is not list:
        raise nonsense(to)
    try:
        named = {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
        found: T = msgspec.convert(named, form)
    except (AttributeError, ValueError):  # msgspec's own is one of the latter
        raise nonsense(to) from None
    return found
