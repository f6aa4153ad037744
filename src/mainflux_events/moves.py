"""The commands that move one cursor: only forward, only where the expected is found, only with the lease."""

from __future__ import annotations

import hashlib
from typing import Final

from . import answers
from .deadletters import Step
from .resp import bulk, command

# Moves a cursor, and back only where what is expected is found: KEYS the cursor; ARGV what is expected there ("" for
# nothing, and ahead of the new ID only where the stream is another one than before), and the new ID. Gives nil where
# the expected was found, else what was found. What is no ID is left alone and refused, and where nothing is expected,
# anything is left alone. IDs are compared as padded strings, for Lua's numbers are doubles. `first` is what is done
# before it moves. Where it is fenced, KEYS and ARGV also have the lease and its token, without which nothing moves.
_MOVE: Final = """
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then
  return redis.error_reply('FENCED the lease of this name is held by another subscriber, or by none')
end
local found = redis.call('GET', KEYS[1])
if found == ARGV[1] and found ~= '' then
  {first}redis.call('SET', KEYS[1], ARGV[2])
  return false
end
if found then
  if ARGV[1] == '' then return found end
  local function padded(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    if not ms or #ms > 20 or #seq > 20 then return nil end
    return string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
  end
  local place = padded(found)
  if not place then return redis.error_reply('CORRUPT what is stored is not an ID') end
  if place >= padded(ARGV[2]) then return found end
end
{first}redis.call('SET', KEYS[1], ARGV[2])
if ARGV[1] == '' then return false end
return found or ''
"""
# The same, of which nobody reads the answer: it moves the cursor only where the expected is found. So where it does
# not, those behind it do not either, and the next answered commit finds what is there.
QUIET_SCRIPT: Final = """
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[3] then return false end
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
return false
"""
COMMIT_SCRIPT: Final = _MOVE.format(first="")
_STEP: Final = _MOVE.format(first="append() ")
_SHA: Final = hashlib.sha1(COMMIT_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_QUIET_SHA: Final = hashlib.sha1(QUIET_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_SKIP_REPLY: Final = command("CLIENT", "REPLY", "SKIP")

# Of a connection: that all is answered. Who may not ask for that may not ask for silence either.
ANSWER_ALL: Final = command("CLIENT", "REPLY", "ON")


class Moves:
    """The commands that move one cursor.

    Args:
        key: where it is stored.
        fence: a key, and the token that it has to hold; none for no such condition.
    """

    def __init__(self, key: str, fence: tuple[str, str] | tuple[()] = ()) -> None:
        self._keys = key, *fence[:1]
        self._token = fence[1:]
        keys = [str(len(self._keys)), *self._keys]
        size = b"*%d\r\n" % (2 + len(keys) + 2 + len(self._token))
        packed = b"".join(bulk(each.encode()) for each in keys)
        self._by_sha = size + bulk(b"EVALSHA") + bulk(_SHA.encode()) + packed
        self._by_text = size + bulk(b"EVAL") + bulk(COMMIT_SCRIPT.encode()) + packed
        self._quietly = _SKIP_REPLY + size + bulk(b"EVALSHA") + bulk(_QUIET_SHA.encode()) + packed
        self._make_known = size + bulk(b"EVAL") + bulk(QUIET_SCRIPT.encode()) + packed
        self._rest = b"".join(bulk(each.encode()) for each in self._token)

    def move(self, expected: bytes, id: bytes, *, by_text: bool) -> bytes:
        """Store an ID; with the whole script, where the server may not know it."""
        head = self._by_text if by_text else self._by_sha
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(expected), expected, len(id), id, self._rest)

    def quietly(self, expected: bytes, id: bytes) -> bytes:
        """Store an ID where the expected is found, without an answer; once the script is known to the server."""
        head = self._quietly
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(expected), expected, len(id), id, self._rest)

    def make_known(self) -> bytes:
        """Make the script of `quietly` known to the server. It is answered with nil, and moves nothing."""
        return self._make_known + bulk(b"none") + bulk(b"none") + self._rest

    def step(self, expected: bytes, id: bytes) -> Step:
        """Store an ID together with what else the step does."""
        return Step(_STEP, self._keys, (expected, id, *self._token), answers.moved)
