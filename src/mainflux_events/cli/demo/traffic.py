"""Made-up traffic of a platform: who did what, in the proportions and the order in which such things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from ... import (
    Action,
    Event,
    GroupRemoved,
    Identity,
    OrgCreated,
    OrgRemoved,
    ProfileConfig,
    ProfileCreated,
    ProfileRemoved,
    ProfileUpdated,
    ThingCreated,
    ThingGroupAndProfileUpdated,
    ThingRemoved,
    ThingUpdated,
    Transformer,
)

NAMES = (
    "pump №4",
    "thermostat",
    "温度计",
    "датчик вологості",
    "Wärmezähler",
    "capteur d'énergie",
    "🌡 greenhouse",
)
TAGS = ("edge", "lora", "modbus", "indoor", "μ-grid", "spare")
PEOPLE = ("Ana", "Björn", "Chiều", "Dmitro", "Élise", "福田")
UNITS = ("°C", "kWh", "m³/h", "bar")

Taken = TypeVar("Taken")


class Group:
    """A group of an organisation: the IDs of its profiles and things."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.profiles: list[str] = []
        self.things: list[str] = []


class Org:
    """An organisation: its groups, its users."""

    def __init__(self, id: str, groups: list[Group], users: list[Identity]) -> None:
        self.id = id
        self.groups = groups
        self.users = users


class Platform:
    """What is there, which every event changes: only what was created is updated, moved and removed.

    Args:
        random: where all chance comes from, so that the same seed gives the same events.
        begins: when the first event happened. Each happens later than the one before, so that no two have the same
            time.
    """

    def __init__(self, random: Random, begins: datetime) -> None:
        self._random = random
        self._moment = begins
        self._orgs: list[Org] = []
        weights: dict[Callable[[], Event], int] = {
            self._create_thing: 240,
            self._update_thing: 350,
            self._move_thing: 60,
            self._remove_thing: 160,
            self._create_profile: 60,
            self._update_profile: 80,
            self._remove_profile: 25,
            self._remove_group: 9,
            self._create_org: 9,
            self._remove_org: 7,
        }
        self._happenings, self._weights = list(weights), list(weights.values())

    def events(self) -> Iterator[tuple[Identity, Event]]:
        """Who acted, and the event: without end. Nobody acted where the platform did so by itself."""
        for _ in range(3):
            yield self._acted(self._create_org())
        while True:
            [happening] = self._random.choices(self._happenings, self._weights)
            yield self._acted(happening())

    def _acted(self, event: Event) -> tuple[Identity, Event]:
        users = next((org.users for org in self._orgs if org.id == event.org_id), [])
        alone = not users or self._random.random() < 0.1
        return Identity() if alone else self._random.choice(users), event

    # --- what happens ---

    def _create_thing(self) -> Event:
        org, group = self._somewhere()
        thing, profile = self._id(), self._profile_of(group)
        group.things.append(thing)
        name, metadata = self._random.choice(NAMES), self._metadata()
        return self._event(ThingCreated(thing, group.id, profile, name, metadata), org, group)

    def _update_thing(self) -> Event:
        org, group = self._somewhere()
        if not group.things:
            return self._create_thing()
        thing = self._random.choice(group.things)
        name, metadata = self._random.choice(("", *NAMES)), self._metadata()
        return self._event(ThingUpdated(thing, self._profile_of(group), name, metadata), org, group)

    def _move_thing(self) -> Event:
        org, group = self._somewhere()
        if not group.things:
            return self._create_thing()
        thing = self._take(group.things)
        target = self._random.choice(org.groups)
        target.things.append(thing)
        moved = ThingGroupAndProfileUpdated(thing, self._profile_of(target), target.id)
        return self._event(moved, org, target)

    def _remove_thing(self) -> Event:
        org, group = self._somewhere()
        if not group.things:
            return self._create_thing()
        return self._event(ThingRemoved(self._take(group.things)), org, group)

    def _create_profile(self) -> Event:
        org, group = self._somewhere()
        group.profiles.append(self._id())
        created = ProfileCreated(
            group.profiles[-1], group.id, self._random.choice(("standard", "日次", "Zähler"))
        )
        return self._event(created, org, group)

    def _update_profile(self) -> Event:
        org, group = self._somewhere()
        config = ProfileConfig(
            content_type="application/senml+json",
            transformer=Transformer(data_field="values", time_field="t", time_format="unix_ms"),
            write_enabled=True,
            rule_enabled=self._random.random() < 0.3,
        )
        updated = ProfileUpdated(self._profile_of(group), "standard", config, {"unit": self._unit()})
        return self._event(updated, org, group)

    def _remove_profile(self) -> Event:
        org, group = self._somewhere()
        if len(group.profiles) < 2:
            return self._create_profile()
        return self._event(ProfileRemoved(self._take(group.profiles)), org, group)

    def _remove_group(self) -> Event:
        org, group = self._somewhere()
        org.groups.remove(group)
        if not org.groups:
            org.groups.append(Group(self._id()))
        return self._event(GroupRemoved(group.id, group.things or None), org, group)

    def _create_org(self) -> Event:
        groups = [Group(self._id()) for _ in range(self._random.randint(2, 5))]
        people = self._random.sample(PEOPLE, 3)
        users = [Identity(self._id(), f"{name.lower()}@example.com") for name in people]
        self._orgs.append(Org(self._id(), groups, users))
        return self._event(OrgCreated(self._orgs[-1].id), self._orgs[-1])

    def _remove_org(self) -> Event:
        if len(self._orgs) < 2:
            return self._create_org()
        org = self._take(self._orgs)
        return self._event(OrgRemoved(org.id), org)

    # --- what that is made of ---

    def _event(self, action: Action, org: Org, group: Group | None = None) -> Event:
        self._moment += timedelta(microseconds=self._random.randint(1, 2_000_000))
        return Event(action, Identity(), org.id, group.id if group else "", self._moment)

    def _somewhere(self) -> tuple[Org, Group]:
        org = self._random.choice(self._orgs)
        return org, self._random.choice(org.groups)

    def _profile_of(self, group: Group) -> str:
        if not group.profiles:
            group.profiles.append(self._id())
        return self._random.choice(group.profiles)

    def _take(self, things: list[Taken]) -> Taken:
        return things.pop(self._random.randrange(len(things)))

    def _id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def _unit(self) -> str:
        return self._random.choice(UNITS)

    def _metadata(self) -> dict[str, Any]:
        where = {
            "lat": round(44 + self._random.random(), 4),
            "lon": round(20 + self._random.random(), 4),
        }
        tags = self._random.sample(TAGS, self._random.randint(0, 2))
        return {"unit": self._unit(), "geo": where, "tags": tags, "enabled": self._random.random() < 0.9}
