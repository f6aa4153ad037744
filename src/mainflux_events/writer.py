"""The connection that appends dead letters, each before its entry is passed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from . import answers
from .deadletters import MOST_WORDS, append, dead_letter
from .errors import ConfigError, DeadLetterLimitReached
from .health import Condition
from .hooks import DeadLetteredDetails, Observers, logger
from .keeper import Keeper, Track
from .line import TROUBLE, Line
from .link import Disconnected, Link, Reply
from .policies import Allowance, Backoff, DeadLetters
from .refusals import Refusal, refuse_access
from .resp import command, pairs_of
from .values import text_of
from .wire import operation_of


class DeadLetterWriter:
    """Appends entries to the dead letters, through outages, one at a time.

    Args:
        link: where to connect to.
        settings: the stream, and how many in how long.
        consumer: the name of the subscriber.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent while an answer is due.
        observers: who is told.

    Attributes:
        written: how many were appended.
    """

    def __init__(
        self,
        link: Link,
        settings: DeadLetters,
        consumer: str,
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
    ) -> None:
        self._link = link
        self._settings = settings
        self._consumer = consumer
        self._observers = observers
        self._allowance = None if settings.limit is None else Allowance(settings.limit)
        self._line = Line(
            link,
            settings.stream,
            stream=settings.stream,
            what="dead_letter",
            backoff=backoff,
            patience=patience,
            observers=observers,
        )
        self._one_at_a_time = asyncio.Lock()
        self._ends: float | None = None
        self._bound: asyncio.Timeout | None = None
        self.written: int = 0

    @property
    def condition(self) -> Condition | None:
        """How the connection does; None where nothing is being written."""
        return self._line.condition if self._one_at_a_time.locked() else None

    async def check(self) -> None:
        """Connect, and see whether this user may append to this key, without appending.

        Raises:
            AccessRefused, ConfigError: it can never work.
            Unreachable, Disconnected: it may work later.
        """
        stream = self._settings.stream
        channel = await self._line.channel()
        # Rights are checked before arguments, and this ID is refused.
        probe = command("XADD", stream, "NOMKSTREAM", "0-0", "probe", "") + command("TYPE", stream)
        appended, kind = await channel.exchange(probe, 2)
        rights = "dead letters need the right +xadd on their stream's key"
        refuse_access(appended, self._link.where, f"XADD on {stream!r}", rights)
        if isinstance(kind, bytes) and kind not in (b"stream", b"none"):
            raise ConfigError(
                f"{self._link.where}: the key {stream!r} holds a {kind.decode()}, not a stream; choose another stream "
                "for dead letters"
            )

    async def write(
        self,
        track: Track,
        entry: Sequence[Any],
        error: BaseException,
        attempts: int,
        keeper: Keeper | None,
    ) -> bool:
        """Append an entry to the dead letters, and wait until that is acknowledged.

        Args:
            track, entry: its stream; its ID and fields.
            error: why it could not be handled.
            attempts: how often the handler was called.
            keeper: who passes it, in the same step where that can be one; None where it cannot be passed yet.

        Returns:
            Whether it was appended. It is not where the keeper finds that somebody else has passed it meanwhile.

        Raises:
            DeadLetterLimitReached: nothing was appended, for too many were lately.
            TimeoutError: the subscriber closes, and this took too long.
            Fenced: the keeper may not pass anything any more; nothing was appended.
        """
        id, fields = entry
        settings = self._settings
        if self._allowance is not None and not self._allowance.spend(monotonic()):
            assert settings.limit is not None
            limit = settings.limit.count, settings.limit.seconds
            raise DeadLetterLimitReached(track.stream, id.decode(), settings.stream, *limit) from error
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout_at(self._ends) as self._bound:
                    letter = dead_letter(fields, track.stream, id, error, attempts, self._consumer)
                    appended = await self._append(track, id, letter, keeper)
            except TimeoutError:
                logger.error("dead_letter_not_written: entry %s of %r, on closing", id.decode(), track.stream)
                raise
            finally:
                self._bound = None
        if appended:
            self._tell(track.stream, id.decode(), fields, error, attempts)
        return appended

    def _tell(self, stream: str, id: str, fields: list[bytes], error: BaseException, attempts: int) -> None:
        self.written += 1
        dead_letters = self._settings.stream
        logger.warning(
            "dead_lettered: entry %s of %r is in %r, for %s", id, stream, dead_letters, type(error).__name__
        )
        if self._observers:
            operation = text_of(operation_of(fields) or b"")
            details = DeadLetteredDetails(
                stream, id, operation, dead_letters, error, attempts, pairs_of(fields)
            )
            self._observers.notify("dead_lettered", details)

    async def _append(self, track: Track, id: bytes, letter: list[bytes], keeper: Keeper | None) -> bool:
        while True:
            passage = None if keeper is None else await keeper.passing(track, id)
            stream, max_len = self._settings.stream, self._settings.max_len
            if passage and (len(letter) > MOST_WORDS or not self._link.together(stream, *passage.step.keys)):
                passage = None  # first the one, then the other
            step = passage.step if passage else None
            answer = step.answer if step else answers.appended
            reply, again = await self._exchange(append(stream, max_len, letter, step), answer)
            if isinstance(reply, Refusal):
                await self._line.rest(reply)  # fenced: whether that lasts, the keeper will know
            else:
                return passage is None or passage.answered(reply, again)

    async def _exchange(self, packed: bytes, answer: Callable[[Reply], Reply]) -> tuple[Reply, bool]:
        """Send a command until it is not refused, but for FENCED.

        Gives the reply, and whether it may have been executed before.
        """
        again = False
        while True:
            try:
                channel = await self._line.channel()
                [reply] = map(answer, await channel.exchange(packed, 1))
                if isinstance(reply, Refusal) and reply.code != "FENCED":
                    raise reply
            except TROUBLE as trouble:
                again = again or isinstance(trouble, Disconnected)
                again = again or (isinstance(trouble, Refusal) and trouble.is_nonsense)
                await self._line.rest(trouble)
            else:
                self._line.worked()
                return reply, again

    def close(self, seconds: float) -> None:
        """What is being written has so much time left; waits between attempts are short from now on."""
        self._line.closing.set()
        self._ends = asyncio.get_running_loop().time() + seconds
        if self._bound is not None:
            self._bound.reschedule(self._ends)

    async def idle(self) -> None:
        """Wait until nothing is being written."""
        async with self._one_at_a_time:
            pass

    async def disconnect(self) -> None:
        """End the connection."""
        await self._line.disconnect()
