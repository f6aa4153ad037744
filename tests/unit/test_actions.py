"""The ten actions of the platform, against what the reference writes."""

from __future__ import annotations

import msgspec
import pytest

from mainflux_events.actions import AUTH_STREAM, PLATFORM_ACTIONS, THINGS_STREAM, GroupRemoved, ProfileConfig
from mainflux_events.events import Action, action_classes

# Operation: fields that are always written, and those written when they are not empty (the reference's table).
TABLE = {
    "thing.create": (["id", "group_id", "profile_id"], ["name", "metadata"]),
    "thing.update": (["id", "profile_id"], ["name", "metadata"]),
    "thing.update_group_and_profile": (["id", "profile_id"], ["group_id"]),
    "thing.remove": (["id"], []),
    "profile.create": (["id", "group_id"], ["name", "metadata"]),
    "profile.update": (["id"], ["name", "config", "metadata"]),
    "profile.remove": (["id"], []),
    "group.remove": (["id"], ["thing_ids"]),
    "org.create": (["id"], []),
    "org.remove": (["id"], []),
}


def test_the_streams_have_the_names_of_the_platform() -> None:
    assert (THINGS_STREAM, AUTH_STREAM) == ("mainflux.things", "mainflux.auth")


def test_there_are_the_ten_operations_of_the_platform() -> None:
    assert {action.operation for action in PLATFORM_ACTIONS} == set(TABLE)


@pytest.mark.parametrize("action", PLATFORM_ACTIONS, ids=lambda action: action.operation)
def test_an_action_requires_what_the_reference_always_writes(action: type[Action]) -> None:
    fields = msgspec.structs.fields(action)
    required = [field.name for field in fields if field.required]
    optional = [field.name for field in fields if not field.required]
    assert (required, optional) == TABLE[action.operation]


@pytest.mark.parametrize("action", PLATFORM_ACTIONS, ids=lambda action: action.operation)
def test_an_action_is_known_by_its_operation(action: type[Action]) -> None:
    assert action_classes()[action.operation.encode()] is action


def test_an_action_can_be_matched() -> None:
    match GroupRemoved("g1", ["t1", "t2"]):
        case GroupRemoved(id="g1", thing_ids=[first, *_]):
            assert first == "t1"
        case _:
            pytest.fail("it did not match")


def test_an_action_is_frozen() -> None:
    with pytest.raises(AttributeError):
        GroupRemoved("g1").id = "g2"


def test_a_configuration_has_the_zero_values_of_the_reference() -> None:
    assert msgspec.to_builtins(ProfileConfig()) == {
        "content_type": "",
        "transformer": {
            "data_filters": None,
            "data_field": "",
            "time_field": "",
            "time_format": "",
            "time_location": "",
        },
        "write_enabled": False,
        "webhook_enabled": False,
        "rule_enabled": False,
    }
