"""Leases: the right to be the only one, for a bounded time. Pure; `tenure` asks for them.

A lease is a key that holds the token of whoever has it, and that the server lets go by itself when it is not renewed
in time. The server alone measures that time. Who has it counts from before it asked, so it stops early enough; and
what it still asks for, such as a commit, names the token, and is refused where that is not what the key holds.
"""

from __future__ import annotations

import secrets
from typing import Final

from .link import Reply
from .refusals import Refusal
from .resp import command
from .slots import beside

# Seconds after which a lease goes, unless it is renewed: so long at most nobody has it after its holder died or hung.
TTL: Final = 5.0

# KEYS the lease; ARGV the token, and milliseconds. Gives nil where it is held now, else how many milliseconds are left
# to somebody else: -1 without end. Asked for again by the same one, it is renewed: the first answer may have been lost.
ACQUIRE_SCRIPT: Final = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return redis.call('PTTL', KEYS[1]) end
if found then redis.call('PEXPIRE', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return false
"""

# The same. Gives 1 where it is still held, else 0. With 0 milliseconds it goes at once. PEXPIRE needs no memory, so a
# server that has none left takes no lease away.
RENEW_SCRIPT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# Does all that a lease needs, and changes nothing.
CHECK_SCRIPT: Final = """
redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) or '', 'XX', 'KEEPTTL')
local left = redis.call('PTTL', KEYS[1])
if left ~= -1 then redis.call('PEXPIRE', KEYS[1], math.max(left, 1)) end
return redis.status_reply('OK')
"""


def lease_key(cursor_key: str) -> str:
    """The key of the lease of a cursor, in the cursor's slot."""
    return beside(cursor_key, "mainflux:lease:")


class Lease:
    """A lease, as one who wants it sees it.

    Args:
        key: where it is.

    Attributes:
        token: what the key holds while this one has the lease.
        until: until when this one has it for sure, by the monotonic clock; 0 where it does not.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.token: str = ""
        self.until: float = 0.0
        self.renounce()

    def renounce(self) -> None:
        """What was asked for under the present token shall not count any more, even if it is held again."""
        self.token = secrets.token_hex(16)
        self.until = 0.0

    def check(self) -> bytes:
        """The command that is refused where something that is needed is not allowed."""
        return command("EVAL", CHECK_SCRIPT, 1, self.key)

    def acquire(self) -> bytes:
        """The command that asks for the lease."""
        return command("EVAL", ACQUIRE_SCRIPT, 1, self.key, self.token, _milliseconds())

    def acquired(self, reply: Reply, asked: float) -> None:
        """Take the reply to `acquire`, which was asked for at this time of the monotonic clock."""
        self.until = asked + TTL if reply is None else 0.0

    def renew(self) -> bytes:
        """The command that renews the lease."""
        return command("EVAL", RENEW_SCRIPT, 1, self.key, self.token, _milliseconds())

    def renewed(self, reply: Reply, asked: float) -> None:
        """Take the reply to `renew`, which was asked for at this time. A refusal leaves it as it was."""
        if not isinstance(reply, Refusal):
            self.until = asked + TTL if reply == 1 else 0.0

    def release(self) -> bytes:
        """The command that lets the lease go."""
        self.until = 0.0
        return command("EVAL", RENEW_SCRIPT, 1, self.key, self.token, 0)


def _milliseconds() -> int:
    return round(TTL * 1000)
