"""Who stores how far a stream is handled, as those see it who hand its entries out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from .deadletters import Step
from .link import Reply


class Track(Protocol):
    """A stream, and how far it is handled."""

    @property
    def stream(self) -> str:
        """The key of the stream."""
        ...


class Fenced(Exception):
    """Another subscriber of the name has the lease for good."""


class Passage(msgspec.Struct, frozen=True):
    """What has an entry passed in one step with its dead letter.

    Attributes:
        step: what is done.
        answered: to be called with the reply to it, and whether it was sent before without an answer. Gives whether the
            dead letter was appended.
    """

    step: Step
    answered: Callable[[Reply, bool], bool]


class Keeper(Protocol):
    """Who stores how far a track is handled."""

    @property
    def turned(self) -> bool:
        """Whether what is finished next is stored at once."""
        ...

    def room(self) -> int:
        """How many more entries may be finished until that has to be told."""
        ...

    def begin(self) -> None:
        """Some are about to be handed out."""

    def finished(self, track: Any, ids: Sequence[bytes]) -> None:
        """The entries with these IDs are handled or passed over."""

    async def passing(self, track: Any, id: bytes) -> Passage | None:
        """What has an entry passed, to be done with its dead letter; None where that cannot be one step.

        Waits until all that is finished is stored.

        Raises:
            Fenced: nothing can be stored any more.
        """
        ...

    def look_out(self) -> None:
        """From now on, that the event loop has turned means that a handler has awaited something."""
