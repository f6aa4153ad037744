"""Who handles which partitions: the consumers of one name that live, and an even share for each. Pure.

A consumer lives as long as it says so again and again, in a sorted set by the server's time. All of them work out the
shares from that set by themselves, with the same result. Whoever has not seen the latest set is not wrong for long, and
does no harm: a partition is handled by who holds its lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from .link import Reply
from .refusals import Refusal
from .resp import command

# KEYS the members; ARGV this one, and milliseconds. Those who have been silent for so long are gone. Gives the others.
ATTEND_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[2])
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""

# Who is none of them: for whether one may go.
NOBODY: Final = ""


class Members:
    """The consumers of one name, as one of them sees them.

    Args:
        key: where they are.
        me: which one this is.
        ttl: seconds after which one that has been silent is gone.
    """

    def __init__(self, key: str, me: str, ttl: float) -> None:
        self.key = key
        self.me = me
        self._milliseconds = round(ttl * 1000)

    def attend(self) -> bytes:
        """The command that says that this one lives."""
        return command("EVAL", ATTEND_SCRIPT, 1, self.key, self.me, self._milliseconds)

    def attending(self, reply: Reply) -> list[str]:
        """Take the reply to that. Gives all who live, sorted.

        Raises:
            Refusal: the server does not answer.
        """
        if isinstance(reply, Refusal):
            raise reply
        if not isinstance(reply, list) or not all(isinstance(member, bytes) for member in reply):
            raise Refusal("NONSENSE no list of members was answered")
        return sorted(member.decode("utf-8", "replace") for member in reply)

    def let_go(self, member: str | None = None) -> bytes:
        """The command that says that a consumer is going; None for this one."""
        return command("ZREM", self.key, self.me if member is None else member)


def share_out(partitions: int, members: Iterable[str]) -> dict[str, frozenset[int]]:
    """Share the partitions out among members: the same numbers to each, give or take one.

    Each partition goes to the first in its own order of the members (rendezvous hashing) who has room: so where one
    comes or goes, few of the others' partitions move.

    Args:
        partitions: how many there are; their numbers begin with 0.
        members: in any order.
    """
    everybody = sorted(set(members))
    if not everybody:
        return {}
    least, larger = divmod(partitions, len(everybody))
    shares: dict[str, set[int]] = {member: set() for member in everybody}
    for partition in range(partitions):
        for member in sorted(everybody, key=lambda each: _rank(partition, each)):
            share = shares[member]
            if len(share) < least or (len(share) == least and larger):
                larger -= len(share) == least
                share.add(partition)
                break
    return {member: frozenset(share) for member, share in shares.items()}


def _rank(partition: int, member: str) -> bytes:
    return blake2b(f"{partition} {member}".encode(), digest_size=8).digest()
