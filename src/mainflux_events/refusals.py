"""What the server's error replies mean: which pass, which last, which concern a single event."""

from __future__ import annotations

from enum import Enum


class Outlook(Enum):
    """What may be expected of another attempt."""

    PASSING = "the same attempt may succeed later"
    ELSEWHERE = "another server, or another connection, has to be asked"
    LASTING = "somebody has to change the stream, the rights or the server first"
    VALUE = "this event will never be accepted"


# By the first word of the reply. OOM and the like end by themselves; a demoted master and a moved slot are found
# again by connecting anew.
_PASSING = frozenset({"LOADING", "OOM", "BUSY", "NOREPLICAS", "MISCONF", "TRYAGAIN", "EXECABORT", "INPROG"})
_ELSEWHERE = frozenset({"READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "UNBLOCKED"})

# Replies of the class ERR that concern more than the one value.
_LASTING_ERR = (
    "ERR unknown command",
    "ERR syntax error",
    "ERR wrong number of arguments",
    "ERR The stream has exhausted",
    "ERR operation not permitted",
    "ERR This instance has cluster support disabled",
)


class Refusal(Exception):
    """An error reply of the server, as its own text has it."""

    @property
    def text(self) -> str:
        """The reply, without the arguments that some replies repeat."""
        return str(self.args[0]).partition(", with args beginning")[0]

    def __str__(self) -> str:
        return self.text

    @property
    def code(self) -> str:
        """The first word. An aborted transaction has that of its cause."""
        _, aborted, cause = self.text.partition("EXECABORT Transaction discarded because of: ")
        return (cause if aborted else self.text).partition(" ")[0].rstrip(":")

    @property
    def outlook(self) -> Outlook:
        """What may be expected of another attempt."""
        if self.code in _PASSING:
            return Outlook.PASSING
        if self.code in _ELSEWHERE:
            return Outlook.ELSEWHERE
        if self.code == "ERR" and not self.text.startswith(_LASTING_ERR):
            return Outlook.VALUE
        return Outlook.LASTING

    @property
    def access(self) -> bool:
        """Whether it is about credentials or rights."""
        return self.code in ("NOAUTH", "WRONGPASS", "NOPERM")
