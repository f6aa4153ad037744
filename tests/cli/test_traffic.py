"""The made-up events of the demo."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import islice, pairwise
from random import Random

import pytest

from mainflux_events import (
    Event,
    GroupRemoved,
    Identity,
    OrgCreated,
    OrgRemoved,
    ProfileCreated,
    ProfileRemoved,
    ThingCreated,
    ThingGroupAndProfileUpdated,
    ThingRemoved,
    ThingUpdated,
    wire,
)
from mainflux_events.actions import PLATFORM_ACTIONS
from mainflux_events.cli.demo.traffic import Platform
from mainflux_events.resp import Append

BEGINS = datetime(2026, 6, 26, 8, tzinfo=UTC)


def traffic(events: int, seed: int = 1) -> list[tuple[Identity, Event]]:
    return list(islice(Platform(Random(seed), BEGINS).events(), events))


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return [event for _, event in traffic(20_000)]


def test_all_ten_operations_happen(events: list[Event]) -> None:
    counts = Counter(type(event.action) for event in events)
    assert all(counts[action] > 50 for action in PLATFORM_ACTIONS)


def test_no_two_events_have_the_same_time(events: list[Event]) -> None:
    times = [event.occurred_at for event in events]
    assert all(a is not None and b is not None and BEGINS < a < b for a, b in pairwise(times))


def test_what_is_changed_exists(events: list[Event]) -> None:
    things: dict[str, str] = {}  # by ID, the group
    profiles: set[str] = set()
    orgs: set[str] = set()
    for event in events:
        match event.action:
            case OrgCreated(id=id):
                orgs.add(id)
            case OrgRemoved(id=id):
                orgs.remove(id)
            case ProfileCreated(id=id):
                profiles.add(id)
            case ProfileRemoved(id=id):
                profiles.discard(id)  # a group has one from its beginning
            case ThingCreated(id=id, group_id=group):
                assert id not in things
                things[id] = group
            case ThingUpdated(id=id):
                assert things[id] == event.group_id
            case ThingGroupAndProfileUpdated(id=id, group_id=group):
                assert id in things
                things[id] = group
            case ThingRemoved(id=id):
                assert things.pop(id) == event.group_id
            case GroupRemoved(id=group, thing_ids=thing_ids):
                assert {things.pop(id) for id in thing_ids or ()} <= {group}
        assert event.org_id in orgs or isinstance(event.action, OrgRemoved)


def test_it_is_done_by_users_of_the_org_or_by_nobody() -> None:
    by_org: dict[str, set[Identity]] = {}
    for identity, event in traffic(5000):
        by_org.setdefault(event.org_id, set()).add(identity)
    nobody = Identity()
    assert any(nobody in users for users in by_org.values())
    users = [user for identities in by_org.values() for user in identities - {nobody}]
    assert len(users) == len(set(users)) > len(by_org)


def test_some_of_the_text_is_not_ascii(events: list[Event]) -> None:
    assert any(isinstance(event.action, ThingCreated) and not event.action.name.isascii() for event in events)


def test_every_event_comes_back_as_it_was(events: list[Event]) -> None:
    append = Append("stream", None)
    for event in events[:2000]:
        assert wire.decode(append.fields_of(wire.encode(event, append))) == event


def test_the_same_seed_makes_the_same_events() -> None:
    assert traffic(500, seed=7) == traffic(500, seed=7) != traffic(500, seed=8)
