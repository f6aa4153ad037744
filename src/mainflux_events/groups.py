"""The commands that a consumer of a group gives the server, packed. Some are scripts, for atomicity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from . import answers
from .deadletters import Step
from .resp import command

# Who closes gives what is left to this consumer, which is nobody: idle for so long that everybody may have it.
GIVEN_BACK: Final = "given-back"
GIVEN_BACK_MS: Final = 365 * 24 * 3600 * 1000

# So many pending entries are asked for at once: far more than a consumer holds.
MOST_PENDING: Final = 100_000

# KEYS the stream; ARGV the group, the consumer, how many pending entries to look at, and IDs in their order. Renews
# those that are pending for this consumer, without counting a delivery. Gives the others, each with its new owner, or
# "" where there is none. XCLAIM alone would take them back.
_RENEW: Final = """
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local mine, lost = {}, {}
for _, row in ipairs(redis.call('XPENDING', stream, group, ARGV[4], ARGV[#ARGV], ARGV[3], consumer)) do
  mine[row[1]] = true
end
local claim = {'XCLAIM', stream, group, consumer, 0}
for i = 4, #ARGV do
  if mine[ARGV[i]] then
    claim[#claim + 1] = ARGV[i]
  else
    local row = redis.call('XPENDING', stream, group, ARGV[i], ARGV[i], 1)[1]
    lost[#lost + 1] = {ARGV[i], row and row[2] or ''}
  end
end
if #claim > 5 then
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
return lost
"""

# ARGV the group, the consumer, an ID, and how often that was delivered.
_COUNT: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 1 then
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[4], 'JUSTID')
end
return false
"""

# ARGV the group, the consumer, how many pending entries to look at, to whom they go and how idle they are then, and
# IDs with how often each was delivered before (others never were). Gives back what is pending, with these counts, and
# removes the consumer, with which whatever is still pending would vanish. Gives how many were given back.
_LEAVE: Final = """
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local before = {}
for i = 6, #ARGV, 2 do before[ARGV[i]] = ARGV[i + 1] end
local rows = redis.call('XPENDING', stream, group, '-', '+', ARGV[3], consumer)
for _, row in ipairs(rows) do
  local count = before[row[1]] or 0
  redis.call('XCLAIM', stream, group, ARGV[4], 0, row[1], 'IDLE', ARGV[5], 'RETRYCOUNT', count, 'JUSTID')
end
if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
end
return #rows
"""

# ARGV the group, and milliseconds. Removes consumers that were silent for longer, where nothing is pending for them.
# Gives their names.
_SWEEP: Final = """
local removed = {}
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #row, 2 do consumer[row[i]] = row[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed[#removed + 1] = consumer.name
  end
end
return removed
"""


# ARGV the group, and an ID. Appends a dead letter and acknowledges the entry, which may be pending for anybody. Gives
# whether it was.
_DISMISS: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
append()
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class Member:
    """One consumer of a group, on one stream.

    Args:
        stream, group, consumer: their names.
    """

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        self.stream: str = stream
        self.group: str = group
        self.consumer: str = consumer

    def create(self, id: str) -> bytes:
        """Make the group, which begins behind this ID, and the stream where there is none."""
        return command("XGROUP", "CREATE", self.stream, self.group, id, "MKSTREAM")

    def acknowledge(self, ids: Iterable[bytes]) -> bytes:
        """These are handled."""
        return self._command("XACK", *ids)

    def passing(self, id: bytes) -> Step:
        """This one is done with, by a dead letter."""
        return Step(_DISMISS, (self.stream,), (self.group, id), answers.flag)

    def renew(self, ids: Sequence[bytes]) -> bytes:
        """Keep these, in their order. The answer: those that are somebody else's, and whose."""
        return self._script(_RENEW, self.consumer, MOST_PENDING, *ids)

    def take_over(self, idle_ms: int, place: str, most: int) -> bytes:
        """Take over what was idle for so long, from a place in the stream on. No delivery is counted."""
        return self._command("XAUTOCLAIM", self.consumer, idle_ms, place, "COUNT", most, "JUSTID")

    def pending(self, first: bytes = b"-", last: bytes = b"+") -> bytes:
        """What is pending for this consumer: IDs, consumer, idle time, how often it was delivered."""
        return self._command("XPENDING", first, last, MOST_PENDING, self.consumer)

    def fetch(self, ids: Iterable[bytes], deliveries: int) -> bytes:
        """Entries that are pending for this consumer, delivered so often before. No delivery is counted."""
        return self._command("XCLAIM", self.consumer, 0, *ids, "RETRYCOUNT", deliveries)

    def count(self, id: bytes, deliveries: int) -> bytes:
        """This one was delivered so often, if it is pending for this consumer."""
        return self._script(_COUNT, self.consumer, id, deliveries)

    def leave(self, deliveries: Iterable[tuple[bytes, int]]) -> bytes:
        """Give back all that is pending, and remove this consumer.

        Args:
            deliveries: how often some of it was delivered before.
        """
        counts = [part for pair in deliveries for part in pair]
        return self._script(_LEAVE, self.consumer, MOST_PENDING, GIVEN_BACK, GIVEN_BACK_MS, *counts)

    def sweep(self, idle_ms: int) -> bytes:
        """Remove consumers that were silent for so long, and for whom nothing is pending. The answer: their names."""
        return self._script(_SWEEP, idle_ms)

    def trials(self) -> dict[str, bytes]:
        """Commands that change nothing, for whether they are allowed, by their names."""
        # Of what is in a stream nothing is concerned. (The largest ID itself is what the server takes ">" for; and
        # from an entry that is gone XAUTOCLAIM takes what is pending, also where that was not idle for so long.)
        nothing, behind_all = b"0-1", f"{2**64 - 1}-{2**64 - 2}"
        group = ("GROUP", self.group, self.consumer)
        return {
            "XREADGROUP": command("XREADGROUP", *group, "COUNT", 1, "STREAMS", self.stream, behind_all),
            "XACK": self.acknowledge([nothing]),
            "XAUTOCLAIM": self.take_over(GIVEN_BACK_MS, behind_all, 1),
            "XCLAIM": self.fetch([nothing], 0),
            "XPENDING": self.pending(nothing, nothing),
            "XINFO CONSUMERS": command("XINFO", "CONSUMERS", self.stream, self.group),
            "XGROUP DELCONSUMER": command("XGROUP", "DELCONSUMER", self.stream, self.group, ""),
            "EVAL": self.renew([nothing]),
        }

    def _command(self, name: str, *arguments: str | bytes | int) -> bytes:
        return command(name, self.stream, self.group, *arguments)

    def _script(self, script: str, *arguments: str | bytes | int) -> bytes:
        return command("EVAL", script, 1, self.stream, self.group, *arguments)
