"""Appending at most once: a batch is one script, which also advances a sequence that the server keeps.

The sequence is a key of the publisher's own, beside the stream. It says how many of its events were appended, which
IDs the last of them got, and which connection may append. Each connection claims the sequence before it sends a
batch, and from then on whatever an earlier one has sent is refused, however late it arrives. So the answer to a claim
tells for certain what became of a batch that was not answered. Only where the sequence is gone nobody can tell: then
that batch is given up, never sent again.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

import msgspec

from .batch import NONSENSE, Appender, Verdict
from .errors import EncodeError
from .hooks import SequenceLostDetails
from .link import Reply
from .policies import LARGEST
from .refusals import Outlook, Refusal
from .resp import Heads, bulk, bulk_strings, bulks, command
from .slots import beside

# Seconds that the server keeps a sequence after its last use; an unanswered batch that is older is given up. And the
# part of it after which a publisher that was idle does not count on it any more.
KEPT: Final = 24 * 3600.0
SURELY: Final = 0.9

# The keys that all sequences have.
SEQUENCES: Final = "mainflux:publisher:*"

# Lua takes 8,000 values on its stack.
MOST_VALUES: Final = 7_800

# No batch has as many. A server that counts more of them is none, and must not make us count with it.
MOST_IDS: Final = 10_000

# Both scripts begin by writing what is there already. So what would refuse their last write (memory, a right, a
# replica) refuses the first one, before anything is appended; and a server that may not write says of no sequence that
# it is not there.

# What is stored: the claim that began the sequence, the last claim, the number of events that were appended, and the
# IDs of the last batch, in runs: those of one millisecond follow each other, so the first and their number are enough.

# KEYS: the sequence. ARGV: the number of this claim, ms to keep it, and whether to begin a sequence where there is
# none. Gives the sequence that was there; what is no sequence counts as none. A claim that arrives after a later one is
# refused.
CLAIM_SCRIPT: Final = """
local found = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], found or '', 'XX', 'PX', ARGV[2])
local begun, claim, rest = string.match(found or '', '^(%d+) (%d+)( %d+.*)$')
if begun and tonumber(claim) > tonumber(ARGV[1]) then
  return redis.error_reply('STALE a later connection has claimed the sequence')
end
if begun or ARGV[3] == '1' then
  redis.call('SET', KEYS[1], (begun or ARGV[1]) .. ' ' .. ARGV[1] .. (rest or ' 0'), 'PX', ARGV[2])
end
return begun and found
"""

# KEYS: the stream, the sequence. ARGV: what the sequence has to begin with, ms to keep it, MAXLEN, and for each event
# the number of its names and values, and these. Gives the sequence; where an event is refused, what went before it is
# there to stay, so then the error comes with it.
APPEND_SCRIPT: Final = """
local found = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], found or '', 'XX', 'PX', ARGV[2])
local place, before = string.match(found or '', '^(%d+ %d+) (%d+)')
if not place or place .. ' ' .. before ~= ARGV[1] then
  return redis.error_reply('STALE the server does not know the sequence, or not as it was acknowledged')
end
local pcall, sub, unpack, argv = redis.pcall, string.sub, unpack, ARGV
local stream, max_len, at, last = KEYS[1], ARGV[3], 4, #ARGV
local runs, ms, width, count, appended, refused = {}, '', 1, 0, 0, nil
while at <= last do
  local upto = at + argv[at]
  local id = pcall('XADD', stream, 'MAXLEN', '~', max_len, '*', unpack(argv, at + 1, upto))
  if type(id) == 'table' then refused = id break end
  if sub(id, 1, width) ~= ms then
    if appended > 0 then runs[#runs + 1] = '+' .. count end
    width = string.find(id, '-', 1, true)
    ms = sub(id, 1, width)
    runs[#runs + 1] = ' ' .. id
    count = 0
  end
  count = count + 1
  appended = appended + 1
  at = upto + 1
end
if appended == 0 then return refused end
runs[#runs + 1] = '+' .. count
found = place .. ' ' .. string.format('%.0f', before + appended) .. table.concat(runs)
redis.call('SET', KEYS[2], found, 'PX', ARGV[2])
return refused and {found, refused.err} or found
"""
# The command, the script, how many keys, the two, the place in the sequence, ms, MAXLEN.
_OTHER_ARGUMENTS: Final = 8
_SHA: Final = hashlib.sha1(APPEND_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class State(msgspec.Struct, frozen=True):
    """A sequence as the server keeps it.

    Attributes:
        begun: the claim that began it.
        appended: how many events were.
        ids: those of the last of them.
    """

    begun: int
    appended: int
    ids: Sequence[bytes]

    @classmethod
    def of(cls, stored: Reply) -> Self | None:
        """What is stored; None where that is nothing, or no sequence."""
        match = _STORED.match(stored) if isinstance(stored, bytes) else None
        if match is None:
            return None
        ids = (id for run in match[3].split() for id in _ids_of(run))
        return cls(int(match[1]), int(match[2]), list(itertools.islice(ids, MOST_IDS)))


_STORED: Final = re.compile(rb"(\d{1,20}) \d{1,20} (\d{1,20})((?: \d{1,20}-\d{1,20}\+\d{1,20})*)")


def _ids_of(run: bytes) -> Iterator[bytes]:
    id, _, count = run.partition(b"+")
    ms, _, first = id.partition(b"-")
    return (b"%b-%d" % (ms, seq) for seq in range(int(first), int(first) + int(count)))


class Counted(Heads):
    """The number of an event's names and values, in front of them."""

    def __missing__(self, fields: int) -> bytes:
        if fields > MOST_VALUES:
            raise EncodeError(
                "",
                "",
                f"it has {fields // 2} fields, above the {MOST_VALUES // 2} that a script can append "
                "(idempotent=True)",
            )
        head = self[fields] = bulk(b"%04d" % fields)
        return head

    def count(self, packed: bytes) -> int:
        return int(packed[4:8])

    def fields_of(self, packed: bytes) -> list[bytes]:
        return bulk_strings(packed)[1:]

    @staticmethod
    def arguments(batch: Sequence[bytes]) -> int:
        """How many arguments a batch of packed events makes."""
        return sum([int(packed[4:8]) for packed in batch]) + len(batch)


class Numbered(Appender):
    """Appends a batch in one script that advances the publisher's sequence: at most once.

    Args:
        stream: the key of the stream.
        max_len: about how many entries the stream is trimmed to; None for not at all.
        clock: gives a time in seconds that only grows.

    Attributes:
        key: that of the sequence.
    """

    def __init__(self, stream: str, max_len: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            Counted(), f"+xadd +eval +evalsha +get +set on the stream's key and on {SEQUENCES!r}"
        )
        self.key: str = sequence_key(secrets.token_hex(8), stream)
        self._stream = stream
        self._clock = clock
        self._epochs = 0
        self._kept_ms = int(KEPT * 1000)
        keys = bulks(2, stream, self.key)
        self._by_text = bulks("EVAL", APPEND_SCRIPT) + keys
        self._by_sha = bulks("EVALSHA", _SHA) + keys
        self._settings = bulks(self._kept_ms, max_len or LARGEST)
        # The number of the last claim, whether it stands, whether the server is known to have the script, and whether
        # that was what was sent last.
        self._claim = 0
        self._claimed = False
        self._script_known = False
        self._teaching = False
        # The claim that began the sequence (0 where there is none), how many of its events are acknowledged, and when
        # the server was told to keep it.
        self._begun = 0
        self._appended = 0
        self._renewed = clock()
        # The last batch, until it is acknowledged, and whether it may be there without our knowing.
        self._batch: Sequence[bytes] = ()
        self._in_doubt = False
        # Whether a claim was sent last, and when.
        self._claiming = False
        self._sent = clock()

    @property
    def epochs(self) -> int:
        return self._epochs

    @property
    def in_doubt(self) -> bool:
        return self._in_doubt

    @property
    def sends_events(self) -> bool:
        return not self._claiming

    @property
    def _ran_out(self) -> bool:
        """Whether the server may have removed the sequence because it was not used for so long."""
        return self._clock() - self._renewed > KEPT * SURELY

    def connected(self) -> None:
        self._claimed = self._script_known = False

    def keys_there(self) -> bytes:
        return command("EVAL", "return 1", 2, self._stream, self.key)

    def probe(self) -> tuple[bytes, Sequence[str]]:
        # What the scripts call is refused as it would be within them. There is no sequence yet, so nothing is set, and
        # this XADD's ID is refused.
        commands = {
            "GET": command("GET", self.key),
            "SET": command("SET", self.key, "", "XX", "PX", 1),
            "XADD": command("XADD", self._stream, "NOMKSTREAM", "0-0", "probe", ""),
            "EVAL": command("EVAL", "return 0", 0),
            "EVALSHA": command("EVALSHA", "0" * 40, 0),
        }
        keys = dict.fromkeys(commands, self._stream) | dict.fromkeys(("GET", "SET"), SEQUENCES)
        return b"".join(commands.values()), [f"{name} on {key!r}" for name, key in keys.items()]

    def payload(self, batch: Sequence[bytes]) -> tuple[bytes, int]:
        self._claiming = not self._claimed or self._ran_out
        self._sent = self._clock()
        if self._claiming:
            self._claim += 1
            # With a batch in doubt none is begun: that there is none is then an answer.
            begin = int(not self._in_doubt)
            return command("EVAL", CLAIM_SCRIPT, 1, self.key, self._claim, self._kept_ms, begin), 1
        how = self._by_sha if self._script_known else self._by_text
        self._teaching, self._script_known = not self._script_known, True
        self._batch, self._in_doubt = batch, True
        head = b"*%d\r\n" % (_OTHER_ARGUMENTS + Counted.arguments(batch))
        place = bulks(f"{self._begun} {self._claim} {self._appended}")
        return b"".join((head, how, place, self._settings, *batch)), 1

    def verdict(self, events: int, replies: Sequence[Reply]) -> Verdict:
        if not replies:
            return Verdict(())  # a batch stays in doubt until the next claim is answered
        [reply] = replies
        if self._claiming:
            if isinstance(reply, Refusal):
                return Verdict((), reply)
            state = State.of(reply)
            return (
                Verdict((), NONSENSE) if state is None and reply is not None else self._claim_answered(state)
            )
        if isinstance(reply, Refusal):
            if self._teaching and reply.code == "NOSCRIPT":
                return Verdict((), NONSENSE)  # the script was what was sent
            self._in_doubt = False
            return self._refused(reply)
        stored, error = reply if isinstance(reply, list) and len(reply) == 2 else (reply, None)
        state = State.of(stored)
        if state is None or not 0 < state.appended - self._appended <= min(len(self._batch), len(state.ids)):
            return Verdict((), NONSENSE)  # it stays in doubt
        self._in_doubt = False
        ids = self._advance(state)
        if not isinstance(error, bytes):
            return Verdict(ids)
        return self._refused(Refusal(error.decode("utf-8", "replace")), ids)

    def _refused(self, refusal: Refusal, ids: Sequence[bytes] = ()) -> Verdict:
        """These were appended, and nothing after them."""
        if refusal.code == "NOSCRIPT":
            self._script_known = False
            return Verdict(ids)
        if refusal.code == "STALE":
            self._claimed = False
        if refusal.outlook is not Outlook.VALUE:
            return Verdict(ids, refusal)
        # Where some were appended it is the next one. Else an argument is too long for the server, so the longest is.
        longest = [max(map(len, self.heads.fields_of(packed))) for packed in self._batch]
        self._batch = ()  # what is sent again has other numbers
        return Verdict(ids, refusal, len(ids) or longest.index(max(longest)))

    def _claim_answered(self, state: State | None) -> Verdict:
        """Find out what became of the last batch, and whether the sequence is still what it was."""
        doubtful = len(self._batch) if self._in_doubt else 0
        self._in_doubt = False
        self._claimed = state is not None or not doubtful
        found = state.appended if state is not None and state.begun == self._begun else None
        new = 0 if found is None else found - self._appended
        if state is not None and found is not None and 0 <= new <= min(len(self._batch), len(state.ids)):
            return Verdict(self._advance(state))
        # Where the server knows of less than it has acknowledged, it certainly has not what came after.
        unknown = len(self._batch) if new > 0 else doubtful if found is None else 0
        lost = SequenceLostDetails(self._stream, self.key, self._appended, found, unknown)
        # Nothing is lost with the one that was never used, or not for so long.
        spared = found is None and not unknown and (self._ran_out or not self._appended)
        if self._appended or not spared:
            self._epochs += 1
        self._adopt(state or State(self._claim if self._claimed else 0, 0, ()))
        self._batch = ()  # what is sent again has other numbers
        return Verdict((), lost=None if spared else lost)

    def _advance(self, state: State) -> Sequence[bytes]:
        """So many events are appended. Gives the IDs of those that were not acknowledged yet."""
        new = state.appended - self._appended
        self._adopt(state)
        self._batch = self._batch[new:]
        return state.ids[len(state.ids) - new :]

    def _adopt(self, state: State) -> None:
        """This is the sequence, and the server has just been told to keep it."""
        self._begun, self._appended, self._renewed = state.begun, state.appended, self._sent


# --- where the sequence is ------------------------------------------------------------------------------------------


def sequence_key(id: str, stream: str) -> str:
    """The key of a sequence, which is in the slot of its stream."""
    return beside(stream, f"mainflux:publisher:{id}:")
