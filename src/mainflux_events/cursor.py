"""Where a subscriber is in a stream: IDs of entries, the stored cursor, and how far behind it is.

Pure decisions; the connections that carry them out are in `commits` and `reader`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from . import answers
from .deadletters import Step
from .errors import ConfigError, CursorCorrupt, EmptyName, EmptyStream
from .link import Reply
from .moves import Moves
from .policies import text
from .refusals import Refusal

Start: TypeAlias = "Literal['new', 'earliest'] | str | datetime | timedelta"

FIRST: Final = "0-0"
_LARGEST: Final = 2**64 - 1
_ID = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)


def parse_id(id: str) -> tuple[int, int] | None:
    """The two numbers of an entry's ID, milliseconds and sequence; None where it is no whole ID."""
    match = _ID.fullmatch(id)
    if match is None:
        return None
    numbers = int(match[1]), int(match[2])
    return None if max(numbers) > _LARGEST else numbers


def check_start(start: Start) -> None:
    """Raise ConfigError for what is no place to begin at."""
    if isinstance(start, datetime):
        if start.utcoffset() is None:
            raise ConfigError("start: a datetime needs a time zone: use datetime(…, tzinfo=UTC)")
    elif isinstance(start, timedelta):
        if start < timedelta(0):
            raise ConfigError("start: a timedelta counts back from now and cannot be negative")
    elif not isinstance(start, str) or (start not in ("new", "earliest") and parse_id(start) is None):
        raise ConfigError(
            f"start: 'new', 'earliest', the ID of an entry, a datetime or a timedelta is wanted, not {start!r}"
        )


def resolve_start(start: Start, last_id: str, now: datetime) -> str:
    """The cursor that a subscription begins with: the ID after which reading begins.

    Args:
        start: where to begin.
        last_id: the last ID that the stream has given, "0-0" where there is no stream yet.
        now: the time, for a timedelta.
    """
    if start == "new":
        return last_id
    if start == "earliest":
        return FIRST
    if isinstance(start, str):
        return start
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    since_epoch = now - epoch - start if isinstance(start, timedelta) else start - epoch
    milliseconds = since_epoch // timedelta(milliseconds=1)
    # An entry of this very millisecond is to be read, so the cursor is the end of the one before.
    return FIRST if milliseconds <= 0 else f"{milliseconds - 1}-{_LARGEST}"


def checked_streams(stream: str | Iterable[str]) -> tuple[str, ...]:
    """The streams to read. ConfigError where there is none, or one that is named twice."""
    try:
        streams = (stream,) if isinstance(stream, str | bytes) else tuple(stream)
    except TypeError:
        raise ConfigError(f"stream: the key of a stream, or several, are wanted, not {stream!r}") from None
    if not streams or "" in streams:
        raise EmptyStream
    for each in streams:
        text("stream", each)
    if len(set(streams)) < len(streams):
        raise ConfigError("stream: a stream is named twice")
    return streams


def checked_name(name: str) -> str:
    """The name of a subscriber. ConfigError where it is empty, or would make the cursor's key ambiguous."""
    if name == "":
        raise EmptyName
    text("name", name)
    if ":" in name:
        raise ConfigError(
            f"name: {name!r} holds a ':', which would make the cursor's key ambiguous; use another mark"
        )
    return name


def cursor_key(name: str, stream: str) -> str:
    """The key that the reference and this package store a subscriber's cursor under."""
    return f"mainflux:cursor:{name}:{stream}"


def stored_cursor(key: str, reply: Reply) -> str | None:
    """The ID that is stored as a cursor, None where there is none.

    Raises:
        CursorCorrupt: something else is stored.
    """
    if isinstance(reply, Refusal) and reply.code == "WRONGTYPE":
        raise CursorCorrupt(key, "holds a key of another type than string")
    found = answers.stored(reply)
    if found is None:
        return None
    id = found.decode("ascii", "replace")
    if parse_id(id) is None:
        shown = repr(id[:40]) if id else "an empty string"
        raise CursorCorrupt(key, f"holds {shown}, which is not the ID of an entry")
    return id


# --- commits --------------------------------------------------------------------------------------------------------


def padded(id: str) -> str:
    """An ID in the form in which IDs compare as strings."""
    milliseconds, _, sequence = id.partition("-")
    return f"{milliseconds:0>20}{sequence:0>20}"


class Cursor:
    """The cursor of one stream: what is handled, what was sent to be stored, what is known to be stored.

    Attributes:
        stream, key: of the stream, and of the cursor.
        finished: how many entries were finished.
    """

    def __init__(self, name: str, stream: str) -> None:
        self.stream: str = stream
        self.key: str = cursor_key(name, stream)
        self.finished: int = 0
        # IDs, as they come and go on the wire; empty where there is none.
        self._handled = self._stored = self._sent = self._expected = b""
        self._unanswered: deque[bytes] = deque()
        # How many of these each commit answers for, the last one, and how many nobody has asked for yet.
        self._answering: deque[int] = deque()
        self.whispered: int = 0
        self._late: frozenset[bytes] = frozenset()
        self._stepping: bytes | None = None
        self._stepping_again = False
        # What may be stored of a stream that is another one now, and is to be replaced.
        self._left: frozenset[bytes] = frozenset()
        self._moves = Moves(self.key)

    def fence(self, lease: str, token: str) -> None:
        """From now on, nothing is stored unless this key holds this token."""
        self._moves = Moves(self.key, (lease, token))

    def first_commit(self, id: str) -> bytes:
        """The command that stores an ID where nothing is stored yet."""
        return self._moves.move(b"", id.encode(), by_text=True)

    def same_commit(self, id: str) -> bytes:
        """The command that stores again what is stored: for whether that is allowed."""
        return self._moves.move(id.encode(), id.encode(), by_text=True)

    def attach(self, id: str) -> None:
        """This is stored, and reading goes on behind it."""
        self._handled = self._sent = self._stored = self._expected = id.encode()

    @property
    def handled(self) -> str:
        """The ID of the last handled entry, "" while it is not known where reading begins."""
        return self._handled.decode()

    def finish(self, id: bytes, entries: int = 1) -> None:
        """So many entries are handled, or passed over; this is the last one."""
        self._handled = id
        self.finished += entries

    def go_back(self, id: str) -> None:
        """The stream is another one now, and handled up to here: what is stored may be ahead of it, or gone."""
        self._left = self._late.union(self._unanswered, [self._stored])
        self._late |= {b""}
        self._handled, self._sent = id.encode(), b""

    @property
    def due(self) -> bool:
        """Whether something is handled that was not sent to be stored."""
        return self._handled != self._sent

    @property
    def settled(self) -> bool:
        """Whether what is handled is stored, or somebody else's cursor is ahead of it."""
        return not self.due and not self._unanswered

    def commit(self, *, by_text: bool) -> bytes:
        """The command that stores what is handled; with the whole script, where the server may not know it."""
        id = self._sent = self._handled
        # Only the first commit expects nothing: where the cursor was deleted since, it is stored again.
        expected, self._expected = self._expected or FIRST.encode(), id
        self._unanswered.append(id)
        self._answering.append(self.whispered + 1)
        self.whispered = 0
        return self._moves.move(expected, id, by_text=by_text)

    def whisper(self) -> bytes:
        """The command that stores what is handled, without a reply: the next `commit` answers for it.

        Only where something is stored and expected, and where the server knows the script.
        """
        id = self._sent = self._handled
        expected, self._expected = self._expected, id
        self._unanswered.append(id)
        self.whispered += 1
        return self._moves.quietly(expected, id)

    @property
    def can_whisper(self) -> bool:
        """Whether it is known what is stored, and that it is to be replaced by what is behind it."""
        return bool(self._expected) and not self._left

    def make_known(self) -> bytes:
        """The command that makes the script of `whisper` known to the server, and moves nothing."""
        return self._moves.make_known()

    def answered(self, reply: Reply) -> str | None:
        """Take the reply to the oldest unanswered commit. Gives what somebody else had stored meanwhile, if so.

        A refused commit becomes due again.
        """
        answered = [self._unanswered.popleft() for _ in range(self._answering.popleft())]
        id = answered[-1]
        conflict = None
        if reply is None:
            self._stored = id
            if id not in self._left:
                self._left = frozenset()
        elif isinstance(reply, bytes):
            # After a refusal the commits behind it find what was there before it, and one that was sent over a
            # connection that ended may arrive late.
            mine = self._mine(reply) or reply in answered[:-1]
            conflict = None if mine else reply.decode("ascii", "replace")
            self._stored = id if _behind(reply, id) else reply
        else:
            # Those before it may have been stored.
            self._late = self._late.union(answered[:-1])
        if not self._unanswered:
            self._expect_stored()
            if isinstance(reply, Refusal) or self.goes_back:
                self._sent = self._stored
        return conflict

    @property
    def goes_back(self) -> bool:
        """Whether what is stored is ahead, and this subscriber's own, of a stream that is another one now."""
        own = self._stored in self._left or self._stored in self._late
        return own and _behind(self._handled, self._stored)

    def _expect_stored(self) -> None:
        # Where somebody else is ahead, what is stored is not expected: it would be replaced by what is behind it.
        ahead = _behind(self._handled, self._stored)
        self._expected = FIRST.encode() if ahead and not self.goes_back else self._stored

    def _mine(self, found: bytes) -> bool:
        return found in (self._stored, self._stepping) or found in self._late

    def step(self, id: bytes) -> Step:
        """The commit of an entry that goes with its dead letter. All before the entry is settled."""
        self._stepping_again, self._stepping = self._stepping == id, id
        return self._moves.step(self._expected or FIRST.encode(), id)

    def stepped(self, reply: Reply, *, again: bool) -> tuple[bool, str | None]:
        """Take the reply to that. Gives whether it was done, and what somebody else had stored meanwhile, if so.

        It is not done where somebody else has passed the entry.

        Args:
            again: whether it was sent before, and that was not answered.
        """
        id = self._stepping
        assert id is not None
        assert reply is None or isinstance(reply, bytes)
        if reply == id and (again or self._stepping_again):
            reply = None
        done = reply is None or _behind(reply, id)
        conflict = None if reply is None or self._mine(reply) else reply.decode("ascii", "replace")
        self._handled = self._sent = id
        self._stored = id if done or reply is None else reply
        self._stepping = None
        self._expect_stored()
        return done, conflict

    def is_behind(self, reply: Reply) -> bool:
        """Whether the reply to GET says that somebody else has handled more."""
        if not isinstance(reply, bytes) or parse_id(reply.decode("ascii", "replace")) is None:
            return False
        return bool(self._handled) and reply not in self._left and _behind(self._handled, reply)

    def reattach(self, found: str | None) -> str | None:
        """After a new connection: take what is stored. Gives it back if it is from somebody else.

        Whether the commits that were unanswered have arrived shows in what is stored.
        """
        stored = (found or "").encode()
        self._late = frozenset(self._unanswered)
        mine = self._mine(stored)
        self._unanswered.clear()
        self._answering.clear()
        self.whispered = 0
        self._stored = stored
        self._expect_stored()
        behind = not stored or _behind(stored, self._handled)
        self._sent = stored if behind or self.goes_back else self._handled
        return None if mine else stored.decode()


def _behind(one: bytes, other: bytes) -> bool:
    """Whether an ID is smaller than another. None, an empty one, is the smallest."""
    return one != other and padded(one.decode()) < padded(other.decode())


# --- lag ------------------------------------------------------------------------------------------------------------


class Lag(msgspec.Struct, frozen=True):
    """How far a subscriber is behind the end of a stream.

    Attributes:
        entries: how many entries are not handled yet; None where the server cannot tell.
        seconds: the time between the last handled entry (or the first that is left) and the last one.
    """

    entries: int | None
    seconds: float
