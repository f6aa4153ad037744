"""How far a copy is, stored beside its target, and the scripts that append and move it in one step. Pure.

The position is in the slot of the target, and moves only together with what is appended. So a copy that is killed, cut
off or sent twice goes on where it was: what arrives late finds another position than it expects, and does nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal, Self, TypeAlias

import msgspec

from ...cursor import parse_id
from ...errors import ConfigError
from ...policies import LARGEST, text
from ...resp import bulks, command
from ...slots import beside
from .lines import Entry

Job: TypeAlias = Literal["mirror", "replay", "load"]

# Seconds that the position of what ends by itself is kept after its last step: long enough to find out on Monday what
# was interrupted on Friday.
KEPT: Final = 7 * 24 * 3600


class Position(msgspec.Struct, frozen=True):
    """How far a copy is.

    Attributes:
        count: how many entries it has appended.
        id: the ID of the last of them, where it is from; what it began behind, where there is none.
        what: of what it is the copy, in words that are compared when it goes on.
    """

    count: int
    id: str
    what: str

    @classmethod
    def of(cls, stored: bytes) -> Self | None:
        """What is stored; None where that is no position."""
        count, _, rest = stored.decode("utf-8", "replace").partition(" ")
        id, _, what = rest.partition(" ")
        if not count.isascii() or not count.isdigit() or len(count) > 16 or parse_id(id) is None:
            return None
        return cls(int(count), id, what)

    def stored(self) -> bytes:
        """As it is stored."""
        return f"{self.count} {self.id} {self.what}".encode()


def position_key(job: Job, name: str, target: str) -> str:
    """The key of a position, in the slot of the target.

    Raises:
        ConfigError: the name cannot be part of a key.
    """
    text("--name", name)
    if set(name) & set(":{} "):
        raise ConfigError(f"--name: {name!r} holds a colon, a brace or a space; use other marks")
    return beside(target, f"mainflux:{job}:{name}:")


def derived_name(*parts: str) -> str:
    """A name for what nobody has named, the same whenever these are the same."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# --- commands -------------------------------------------------------------------------------------------------------

# KEYS: the position. ARGV: what is stored where there is none yet, ms to keep it, 0 for ever, and whether it is stored
# over what is there, too. Gives what is there. It is written in any case, so that a right that is missing shows before
# anything is appended.
_BEGIN: Final = """
local found = redis.call('GET', KEYS[1])
if not found or ARGV[3] == '1' then found = ARGV[1] end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], found) else redis.call('SET', KEYS[1], found, 'PX', ARGV[2]) end
return found
"""

# KEYS: the target, the position. ARGV: the position that is expected, ms to keep it, MAXLEN, whether IDs are kept, how
# many entries were appended before, of what this is the copy; and for each entry its ID, the number of its names and
# values, and these. Gives the position, and why it went no further, where so. Its first write is what is there already:
# what would refuse the last write refuses that one, before anything is appended.
_APPEND: Final = """
local function keep(position)
  if ARGV[2] == '0' then redis.call('SET', KEYS[2], position)
  else redis.call('SET', KEYS[2], position, 'PX', ARGV[2]) end
end
local found = redis.call('GET', KEYS[2])
if found ~= ARGV[1] then return {found} end
keep(found)
local count, at, refused = tonumber(ARGV[5]), 7, nil
while at < #ARGV do
  local id, upto = ARGV[at], at + 1 + tonumber(ARGV[at + 1])
  local new = ARGV[4] == '1' and id or '*'
  local reply = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], new, unpack(ARGV, at + 2, upto))
  if type(reply) == 'table' then refused = reply.err break end
  count = count + 1
  found = string.format('%.0f', count) .. ' ' .. id .. ' ' .. ARGV[6]
  at = upto + 1
end
if count > tonumber(ARGV[5]) then keep(found) end
return {found, refused}
"""


class Steps:
    """The commands of one copy.

    Args:
        target: the key of the stream that is appended to.
        key: that of the position.
        what: of what it is the copy.
        kept: seconds that the position is kept after its last step; None for ever.
        max_len: about how many entries the target is trimmed to; None for not at all.
        keep_ids: whether entries keep their IDs.
    """

    def __init__(
        self, target: str, key: str, what: str, *, kept: int | None, max_len: int | None, keep_ids: bool
    ) -> None:
        self.target: str = target
        self.key: str = key
        self.what: str = what
        self.keep_ids: bool = keep_ids
        self._settings = ((kept or 0) * 1000, max_len or LARGEST, int(keep_ids))

    def begin(self, id: str, *, anew: bool = False) -> bytes:
        """Ask where to go on; behind this ID, where nothing is stored, or where it is to begin anew."""
        first = Position(0, id, self.what).stored()
        return command("EVAL", _BEGIN, 1, self.key, first, self._settings[0], int(anew))

    def append(self, entries: Sequence[Entry], behind: Position) -> bytes:
        """Append entries, if the position is still this one."""
        head = ("EVAL", _APPEND, 2, self.target, self.key)
        place = (behind.stored(), *self._settings, behind.count, self.what)
        words = len(head) + len(place) + sum(2 + len(entry.fields) for entry in entries)
        packed = [bulks(*head, *place)]
        packed += [bulks(entry.id, len(entry.fields), *entry.fields) for entry in entries]
        return b"*%d\r\n%b" % (words, b"".join(packed))

    def after(self, behind: Position, entry: Entry) -> bytes:
        """The position, as it is stored, when one more entry is appended."""
        return after(behind, [entry], self.what).stored()

    def alone(self, entry: Entry, behind: Position) -> tuple[bytes, bytes]:
        """The same for an entry that has more fields than a script can hand on, as a transaction.

        Gives what is sent first, for three answers: what is watched, the position, and XINFO STREAM of the target; and
        what appends, for four answers, where these are as they have to be.
        """
        kept_ms, max_len, keep_ids = self._settings
        look = command("WATCH", self.target, self.key) + command("GET", self.key)
        new = entry.id if keep_ids else "*"
        add = command("XADD", self.target, "MAXLEN", "~", max_len, new, *entry.fields)
        keep: tuple[str | int, ...] = ("PX", kept_ms) if kept_ms else ()
        move = command("SET", self.key, self.after(behind, entry), *keep)
        act = command("MULTI") + add + move + command("EXEC")
        return look + command("XINFO", "STREAM", self.target), act


def after(behind: Position, entries: Sequence[Entry], what: str) -> Position:
    """The position when these are appended."""
    return Position(behind.count + len(entries), entries[-1].id, what) if entries else behind


def appended(behind: Position, found: Position | None, entries: Sequence[Entry], what: str) -> int | None:
    """How many of the entries that were sent are appended, by the position that is found; None: it is another's."""
    if found == behind:
        return 0
    if found is None:
        return None
    count = found.count - behind.count
    return count if 0 < count <= len(entries) and after(behind, entries[:count], what) == found else None
