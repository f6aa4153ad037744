"""Partitions of a stream: their keys, which event goes to which, and that all agree on how many there are.

The number of a partition is the CRC-32 of the event's key modulo the number of partitions. That is the same for ever
and in every language: CRC-32 is that of zlib, gzip and PNG, and of the consistent partitioner of librdkafka.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias
from zlib import crc32

from .errors import ConfigError, EmptyStream, EncodeError
from .events import Action, Event, UnknownAction
from .link import Reply
from .nodes import Way, ask
from .policies import text, whole
from .refusals import Refusal, refuse_access
from .resp import command

Key: TypeAlias = "Callable[[Event], str | bytes | int]"

# More would be no help: each takes connections of those who consume it. A cluster has at most a thousand nodes.
MOST: Final = 1024

_RIGHTS: Final = "partitions need +get +set on the key that holds their number"


def partition_of(key: str | bytes | int, partitions: int) -> int:
    """The number of the partition, from 0, that events of this key go to.

    Args:
        key: a text stands for its UTF-8 (bytes that came in by `surrogateescape` go out as they were), a whole number
            for its decimal digits.
        partitions: how many there are.
    """
    octets = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogateescape")
    return crc32(octets) % partitions


def partition_streams(stream: str, partitions: int) -> tuple[str, ...]:
    """The keys of the partitions of a stream. Each is its own hash tag, so a cluster has them in slots of their own.

    Raises:
        ConfigError: the name of the stream, or the number, cannot be used.
    """
    if stream == "":
        raise EmptyStream
    text("stream", stream)
    if "{" in stream or "}" in stream:
        raise ConfigError(
            f"stream: {stream!r} holds a brace, but with partitions the whole name is to be the hash tag; "
            "choose another name"
        )
    whole("partitions", partitions)
    if partitions > MOST:
        raise ConfigError(f"partitions: at most {MOST}, not {partitions}")
    return tuple(f"{{{stream}:{number}}}" for number in range(partitions))


class Partitioner:
    """Chooses the partition of an event.

    Args:
        partitions: how many there are.
        key: gives what events have in common that have to stay in order; None for the `id` of the action.
    """

    def __init__(self, partitions: int, key: Key | None) -> None:
        if key is not None and not callable(key):
            raise ConfigError(f"key: a function of an event is wanted, not {key!r}")
        self._partitions = partitions
        self._key = key

    def choose(self, event: Event | Action) -> int:
        """The number of the event's partition.

        Raises:
            EncodeError: it has no key.
        """
        if self._key is None:
            key = _id_of(event.action if isinstance(event, Event) else event)
        else:
            key = self._key(event if isinstance(event, Event) else Event(event))
        if isinstance(key, str | bytes | int):
            try:
                return partition_of(key, self._partitions)
            except UnicodeEncodeError:
                pass
        operation = getattr(event.action if isinstance(event, Event) else event, "operation", "")
        if self._key is None:
            reason = "its action has no id to choose a partition by: give the publisher a key=, a function of the event"
        else:
            reason = f"key= has to give a str, bytes or an int that can be written, not {type(key).__name__}"
        raise EncodeError(str(operation), "", reason)


def _id_of(action: object) -> object:
    return action.fields.get("id") if isinstance(action, UnknownAction) else getattr(action, "id", None)


class Agreement:
    """That everybody has the same number of partitions of a stream. Who comes first stores it.

    Args:
        link: where connections come from.
        stream: the name of the stream, without the number of a partition.
        partitions: how many there are.
        patience: seconds that the server may be silent.
    """

    def __init__(self, link: Way, stream: str, partitions: int, patience: float) -> None:
        self._link = link
        self._stream = stream
        self._partitions = partitions
        self._patience = patience
        self.key: str = f"mainflux:partitions:{stream}"
        self._reached = False

    async def check(self) -> None:
        """See that it is so; asks the server only until it was.

        Raises:
            ConfigError: another number is stored.
            AccessRefused: the rights are missing.
            Unreachable, Disconnected, Refusal: what may pass.
        """
        if self._reached:
            return
        found = await self._ask("GET", self.key)
        if found is None:
            await self._ask("SET", self.key, str(self._partitions), "NX")
            found = await self._ask("GET", self.key)
        if found != str(self._partitions).encode():
            number = found.decode("ascii", "replace") if isinstance(found, bytes) else "nothing"
            raise ConfigError(
                f"partitions: {self._stream!r} has {number[:20]} by the key {self.key!r}, and {self._partitions} were "
                "asked for; all publishers and subscribers of a stream have to use the same number"
            )
        self._reached = True

    async def _ask(self, *words: str) -> Reply:
        reply = await ask(self._link, self.key, self._patience, command(*words))
        if isinstance(reply, Refusal):
            refuse_access(reply, self._link.where, f"{words[0]} on {self.key!r}", _RIGHTS)
            if reply.code == "WRONGTYPE":
                raise ConfigError(
                    f"{self._link.where}: {self.key!r} holds no number of partitions; delete it"
                )
            raise reply
        return reply
