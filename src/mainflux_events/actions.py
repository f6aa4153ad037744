"""The ten actions of the Mainflux platform, and the streams they are published to."""

from __future__ import annotations

from typing import Any

import msgspec

from .events import Action

THINGS_STREAM = "mainflux.things"
AUTH_STREAM = "mainflux.auth"


class Transformer(msgspec.Struct, frozen=True):
    """How a profile's messages become records."""

    data_filters: list[str] | None = None
    data_field: str = ""
    time_field: str = ""
    time_format: str = ""
    time_location: str = ""


class ProfileConfig(msgspec.Struct, frozen=True):
    """How the messages of a profile's things are treated."""

    content_type: str = ""
    transformer: Transformer = Transformer()
    write_enabled: bool = False
    webhook_enabled: bool = False
    rule_enabled: bool = False


# `gc=False` as with events: what they hold never leads back to them.


class ThingCreated(Action, tag="thing.create", gc=False):
    """A thing was created."""

    id: str
    group_id: str
    profile_id: str
    name: str = ""
    metadata: dict[str, Any] | None = None


class ThingUpdated(Action, tag="thing.update", gc=False):
    """A thing's profile, name or metadata was changed."""

    id: str
    profile_id: str
    name: str = ""
    metadata: dict[str, Any] | None = None


class ThingGroupAndProfileUpdated(Action, tag="thing.update_group_and_profile", gc=False):
    """A thing was moved to another group or profile."""

    id: str
    profile_id: str
    group_id: str = ""


class ThingRemoved(Action, tag="thing.remove", gc=False):
    """A thing was removed."""

    id: str


class ProfileCreated(Action, tag="profile.create", gc=False):
    """A profile was created."""

    id: str
    group_id: str
    name: str = ""
    metadata: dict[str, Any] | None = None


class ProfileUpdated(Action, tag="profile.update", gc=False):
    """A profile's name, configuration or metadata was changed."""

    id: str
    name: str = ""
    config: ProfileConfig | None = None
    metadata: dict[str, Any] | None = None


class ProfileRemoved(Action, tag="profile.remove", gc=False):
    """A profile was removed."""

    id: str


class GroupRemoved(Action, tag="group.remove", gc=False):
    """A group was removed, and the things of these IDs with it."""

    id: str
    thing_ids: list[str] | None = None


class OrgCreated(Action, tag="org.create", gc=False):
    """An organisation was created."""

    id: str


class OrgRemoved(Action, tag="org.remove", gc=False):
    """An organisation was removed."""

    id: str


PLATFORM_ACTIONS: tuple[type[Action], ...] = (
    ThingCreated,
    ThingUpdated,
    ThingGroupAndProfileUpdated,
    ThingRemoved,
    ProfileCreated,
    ProfileUpdated,
    ProfileRemoved,
    GroupRemoved,
    OrgCreated,
    OrgRemoved,
)
