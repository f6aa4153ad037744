"""One partition as long as it is a consumer's: who reads it, and who stores how far it is handled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from .commits import Committer
from .cursor import Cursor
from .gaps import Place
from .reader import Reader
from .tasks import conclude, end


class PartitionCommitter(Committer):
    """Stores the cursor of one partition.

    Attributes:
        told: called when something is finished.
    """

    told: Callable[[], None] | None = None

    def finished(self, track: Cursor, ids: Sequence[bytes]) -> None:
        super().finished(track, ids)
        if self.told is not None:
            self.told()


class PartitionTenancy:
    """One partition as long as it is this consumer's.

    Args:
        place: how far it is read and handled.
        reader, committer: who do that.
        reading, storing: their tasks.
        withdraw, forget: what the consumer does for `desk.Tenancy`.
    """

    def __init__(
        self,
        place: Place,
        reader: Reader,
        committer: PartitionCommitter,
        reading: asyncio.Task[None],
        storing: asyncio.Task[None],
        *,
        withdraw: Callable[[], bool],
        forget: Callable[[], None],
    ) -> None:
        self.place = place
        self.reader = reader
        self.committer = committer
        self.reading = reading
        self.storing = storing
        self.withdraw = withdraw
        self.forget = forget

    @property
    def key(self) -> str:
        return self.place.cursor.key

    @property
    def handled(self) -> str:
        return self.place.cursor.handled

    async def flush(self, timeout: float | None) -> None:
        await self.committer.flush(timeout)

    async def close(self) -> None:
        await end([self.reading, self.storing])
        await conclude([self.reader.disconnect(), self.committer.disconnect()])
