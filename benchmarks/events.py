"""The one event that everybody publishes, and the encoding of those who bring none of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import UUID

import msgspec

from mainflux_events import Event, Identity, ThingCreated

# The same for all: the default of the library, which is that of Mainflux.
MAX_LEN = 100_000

_DISTINCT = 1000

to_json = msgspec.json.Encoder().encode
Fields = dict[str, str | bytes]


def _id(number: int) -> str:
    return str(UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))


def an_event(number: int) -> Event:
    """A thing was created, by a user, in a group of an organisation: eleven fields, about 550 bytes."""
    action = ThingCreated(
        id=_id(number),
        group_id=_id(number + 1),
        profile_id=_id(number + 2),
        name=f"pump {number}",
        metadata={
            "enabled": True,
            "geo": {"lat": 44.81, "lon": 20.46},
            "serial": f"PX-{number:05d}",
            "tags": ["edge", "lora"],
        },
    )
    user = Identity(id=_id(number + 3), email=f"user{number}@example.com")
    return Event(action, identity=user, org_id=_id(number + 4), group_id=_id(number + 1))


_EVENTS = [an_event(number) for number in range(_DISTINCT)]


def events(count: int) -> Iterator[Event]:
    """So many events, a thousand of them distinct. Their time is that of their encoding, for everybody."""
    return islice(cycle(_EVENTS), count)


def fields(event: Event) -> Fields:
    """An event as the fields of its entry, the straightforward way: a dict, by hand."""
    action = event.action
    assert isinstance(action, ThingCreated)
    return {
        "operation": action.operation,
        "id": action.id,
        "group_id": action.group_id,
        "profile_id": action.profile_id,
        "name": action.name,
        "metadata": to_json(action.metadata),
        "evt_org_id": event.org_id,
        "evt_group_id": event.group_id,
        "jwt_identity_user_id": event.identity.id,
        "jwt_identity_user_email": event.identity.email,
        "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
