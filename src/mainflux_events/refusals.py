"""What the server's error replies mean: which pass, which last, which concern a single event."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, TypeAlias

from .errors import AccessRefused

# Of a server: its host and port.
Address: TypeAlias = tuple[str, int]


class Outlook(Enum):
    """What may be expected of another attempt."""

    PASSING = "the same attempt may succeed later"
    ELSEWHERE = "another server, or another connection, has to be asked"
    LASTING = "somebody has to change the stream, the rights or the server first"
    VALUE = "this event will never be accepted"


# By the first word of the reply. OOM and the like end by themselves; a demoted master and a moved slot are found
# again by connecting anew. What is in no list lasts: it is reported at each attempt and costs no event. STALE is what
# this package's own script says of a batch whose sequence the server does not know, NONSENSE what this package says of
# answers that no Redis server gives, FENCED what the script of commits says.
_PASSING = frozenset(
    {"LOADING", "OOM", "BUSY", "NOREPLICAS", "MISCONF", "TRYAGAIN", "EXECABORT", "INPROG", "STALE", "FENCED"}
)
_ELSEWHERE = frozenset({"READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED", "NONSENSE"})

# Of these, what is over within moments: a slot moves, a master is replaced.
_BRIEF = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "UNBLOCKED"})

# And what concerns a slot of a cluster, not the server.
_ABOUT_SLOT = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})

# Replies of the class ERR, by their beginning.
_PASSING_ERR = ("ERR max number of clients reached",)
_VALUE_ERR = (
    "ERR Elements are too large",
    "ERR string exceeds maximum allowed size",
    "ERR Protocol error: invalid bulk length",
    "ERR Protocol error: invalid multibulk length",
)

# A node that does not know the others' names says so, or nothing.
_ASK = re.compile(r"\bASK \d+ (?!\?)(\S+):(\d{1,5})")

_ARGUMENTS = re.compile(r", with args beginning.*", re.DOTALL)
_USER = re.compile(r"\bUser \S+ has\b")

# What Redis 6.2 puts around an error within a script (less, where the script has caught it), and how a right that is
# missing there reads in each version.
_SCRIPT = re.compile(r"^(?:ERR Error running script .*?: )?(?:@user_script: ?\d+: )+-?")
_SCRIPT_ACCESS = re.compile(
    r"ERR ACL failure in script: |(?:ERR )?(?=The user executing the script can't run)"
)


# So many characters of a reply are looked at and repeated. Those of Redis are shorter; what else answers may send
# megabytes, which would keep the patterns above busy for minutes.
LONGEST: Final = 512


class Refusal(Exception):
    """An error reply of the server, in its own words.

    Attributes:
        text: the reply, without the arguments and the name of the user, which some replies repeat.
    """

    def __init__(self, reply: str) -> None:
        cause = _SCRIPT_ACCESS.sub("NOPERM ", _SCRIPT.sub("", reply[:LONGEST], count=1), count=1)
        self.text: str = _USER.sub("the user has", _ARGUMENTS.sub("", cause))
        super().__init__(self.text)

    @property
    def code(self) -> str:
        """The first word. An aborted transaction has that of its cause."""
        _, aborted, cause = self.text.partition("EXECABORT Transaction discarded because of: ")
        return (cause if aborted else self.text).partition(" ")[0].rstrip(":")

    @property
    def outlook(self) -> Outlook:
        """What may be expected of another attempt."""
        if self.code in _PASSING or self.text.startswith(_PASSING_ERR):
            return Outlook.PASSING
        if self.code in _ELSEWHERE:
            return Outlook.ELSEWHERE
        if self.text.startswith(_VALUE_ERR):
            return Outlook.VALUE
        return Outlook.LASTING

    @property
    def brief(self) -> bool:
        """Whether it is over within moments, so that a short wait is enough at first."""
        return self.code in _BRIEF

    @property
    def about_slot(self) -> bool:
        """Whether the same connection may be the right one for other keys."""
        return self.code in _ABOUT_SLOT

    @property
    def target(self) -> Address | None:
        """Where the keys already are, while their slot is on the way there."""
        found = _ASK.search(self.text) if self.code == "ASK" else None
        return None if found is None else (found[1], int(found[2]))

    @property
    def is_nonsense(self) -> bool:
        """Whether it is no answer to the command, so that nobody knows what became of that."""
        return self.code == "NONSENSE"

    @property
    def access(self) -> bool:
        """Whether it is about credentials or rights."""
        return self.code in ("NOAUTH", "WRONGPASS", "NOPERM")


def nonsense(to: str) -> Refusal:
    """In place of what a Redis server would have answered to a command, which is named."""
    return Refusal(f"NONSENSE the server sent what is no answer to {to}")


def refuse_access(reply: object, where: str, what: str, rights: str) -> None:
    """Raise AccessRefused for a reply that is about credentials or rights.

    Args:
        reply: any reply.
        where: the server.
        what: the command, and what it was run on.
        rights: which rights are needed in all.
    """
    if isinstance(reply, Refusal) and reply.access:
        if reply.code == "NOPERM":
            raise AccessRefused(where, f"the user may not run {what} ({reply.code}): {rights}")
        raise AccessRefused(
            where, f"the server wants a password, and none was given, or not the right one ({reply.code})"
        )
