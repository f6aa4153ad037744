"""Events, identities, and the rules that an action class is held to when it is made."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from types import new_class
from typing import Any

import anyio.to_thread
import msgspec
import pytest

from mainflux_events.actions import ThingCreated, ThingRemoved
from mainflux_events.errors import ConfigError
from mainflux_events.events import (
    Action,
    Event,
    Identity,
    UnknownAction,
    acting,
    acting_as,
    action_classes,
)
from mainflux_events.wire import decode

ENTRY = [b"operation", b"thing.remove", b"id", b"t1", b"more", b"\xff"]


def made(body: dict[str, Any] | None = None, /, name: str = "Made", **settings: Any) -> type[Action]:
    """A new action class, of fields given as name and type."""
    namespace = {"__module__": __name__, "__qualname__": name, "__annotations__": body or {}}
    made: type[Action] = new_class(name, (Action,), settings, lambda body: body.update(namespace))
    return made


# --- action classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"tag": ""}, {"tag": True}, {"tag": 5}, {"tag": None}])
def test_a_class_without_an_operation_of_its_own_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="Made: it needs an operation of its own"):
        made(**settings)


def test_a_subclass_needs_an_operation_of_its_own_too() -> None:
    with pytest.raises(ConfigError, match="Again: it needs an operation of its own"):

        class Again(ThingRemoved):
            pass


def test_a_subclass_with_an_operation_of_its_own_has_its_parents_fields() -> None:
    class Renamed(ThingRemoved, tag="events.renamed"):
        name: str = ""

    assert (Renamed.operation, ThingRemoved.operation) == ("events.renamed", "thing.remove")
    assert Renamed("t1", "n").id == "t1"


def test_an_operation_that_another_class_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'thing.create' is that of mainflux_events.actions.ThingCreated"):
        made(tag="thing.create")
    assert action_classes()[b"thing.create"] is ThingCreated


def test_an_operation_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="Made"):
        made(tag="\ud800")


def test_a_class_of_the_same_module_and_name_takes_the_place_of_the_first() -> None:
    first, second = (made(tag="events.again", name="Again") for _ in range(2))
    assert first is not second
    assert action_classes()[b"events.again"] is second


@pytest.mark.parametrize(
    "field",
    [
        "operation",
        "evt_org_id",
        "evt_anything",
        "jwt_identity_user_id",
        "occurred_at",
        "traceparent",
        "tracestate",
        "baggage",
        "dlq_reason",
    ],
)
@pytest.mark.parametrize("renamed", ["neither", "attribute", "entry"])
def test_a_field_named_like_the_envelope_is_refused(field: str, renamed: str) -> None:
    attribute = "harmless" if renamed == "entry" else field
    rename = {"neither": None, "attribute": {field: "harmless"}, "entry": {"harmless": field}}[renamed]
    with pytest.raises(ConfigError, match=f"Made.*{field}"):
        made({attribute: str}, tag="events.envelope", rename=rename)


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="Made"):
        made({"a": str, "b": str}, tag="events.two", rename={"a": "b"})


@pytest.mark.parametrize(
    "setting",
    [{"frozen": False}, {"array_like": True}, {"forbid_unknown_fields": True}, {"tag_field": "type"}],
)
def test_a_setting_that_changes_the_form_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"Made: {next(iter(setting))}"):
        made(tag="events.form", **setting)


@pytest.mark.parametrize("refused", [{"frozen": False}, {"array_like": True}])
def test_a_class_that_is_refused_leaves_nothing_behind(refused: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        made(tag="events.nothing", **refused)
    assert b"events.nothing" not in action_classes()


@pytest.mark.parametrize(
    "setting", [{"kw_only": True}, {"dict": True}, {"order": True}, {"tag_field": "operation"}]
)
def test_a_setting_that_leaves_the_form_alone_is_taken(setting: dict[str, Any]) -> None:
    assert made({"a": str}, tag="events.setting", **setting)(a="x").operation == "events.setting"


# --- events ---------------------------------------------------------------------------------------------------------


def test_an_event_that_was_not_received_has_no_entry() -> None:
    event = Event(ThingRemoved("t1"))
    assert (event.id, event.stream, event.raw) == ("", "", ())


def test_a_received_event_knows_its_entry() -> None:
    event = decode(ENTRY, "mainflux.things", "5-1")
    assert (event.id, event.stream) == ("5-1", "mainflux.things")
    assert event.raw == ((b"operation", b"thing.remove"), (b"id", b"t1"), (b"more", b"\xff"))


def test_the_entry_takes_no_part_in_comparison_and_hash() -> None:
    received, sent = decode(ENTRY, "mainflux.things", "5-1"), Event(ThingRemoved("t1"))
    assert received == sent
    assert not received != sent  # noqa: SIM202 - another method
    assert hash(received) == hash(sent)


@pytest.mark.parametrize(
    "other",
    [
        Event(ThingRemoved("t2")),
        Event(ThingRemoved("t1"), Identity("u1")),
        Event(ThingRemoved("t1"), org_id="o1"),
        Event(ThingRemoved("t1"), group_id="g1"),
        Event(ThingRemoved("t1"), occurred_at=datetime.now(UTC)),
        ThingRemoved("t1"),
    ],
)
def test_everything_else_takes_part_in_comparison(other: object) -> None:
    assert Event(ThingRemoved("t1")) != other
    assert not Event(ThingRemoved("t1")) == other  # noqa: SIM201 - another method


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda event: pickle.loads(pickle.dumps(event)),
        lambda event: msgspec.structs.replace(event, org_id=event.org_id),
    ],
    ids=["copy", "deepcopy", "pickle", "replace"],
)
def test_a_copy_keeps_the_entry(copied: Callable[[Event], Event]) -> None:
    event = decode(ENTRY, "mainflux.things", "5-1")
    again = copied(event)
    assert again == event
    assert (again.id, again.stream, again.raw) == (event.id, event.stream, event.raw)


def test_the_repr_shows_what_is_there_and_not_the_raw_fields() -> None:
    assert repr(Event(ThingRemoved("t1"))) == "Event(action=ThingRemoved(id='t1'))"
    shown = repr(decode([*ENTRY, b"jwt_identity_user_id", b"u1"], "mainflux.things", "5-1"))
    assert shown == (
        "Event(action=ThingRemoved(id='t1'), identity=Identity(id='u1', email=''), "
        "stream='mainflux.things', id='5-1')"
    )


def test_an_unknown_action_holds_its_operation_and_fields() -> None:
    action = UnknownAction("thing.bogus", {"id": "t1"})
    assert (action.operation, action.fields) == ("thing.bogus", {"id": "t1"})


# --- acting_as ------------------------------------------------------------------------------------------------------


def test_acting_as_lasts_as_long_as_its_block() -> None:
    with acting_as(Identity("u1")):
        with acting_as(Identity("u2")):
            assert acting.get() == Identity("u2")
        assert acting.get() == Identity("u1")
    assert acting.get() is None


def test_acting_as_ends_with_an_exception() -> None:
    with pytest.raises(RuntimeError), acting_as(Identity("u1")):
        raise RuntimeError
    assert acting.get() is None


def test_an_identity_without_an_id_acts_for_nobody() -> None:
    with acting_as(Identity(email="e@x")):
        assert acting.get() is None


async def test_acting_as_follows_tasks_and_threads() -> None:
    async def asked() -> Identity | None:
        return acting.get()

    with acting_as(Identity("u1")):
        task = asyncio.create_task(asked())
        in_thread = await anyio.to_thread.run_sync(acting.get)
    assert await task == in_thread == Identity("u1")
    assert await asyncio.create_task(asked()) is None


def test_a_union_of_str_with_another_type_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(ConfigError, match="field 'value': a union of str"):
        made({"value": str | int}, tag="events.union")
    assert b"events.union" not in action_classes()


@pytest.mark.parametrize("nobody", [None, "u1"])
def test_acting_as_wants_an_identity(nobody: object) -> None:
    with pytest.raises(ConfigError, match="Identity"), acting_as(nobody):  # type: ignore[arg-type]
        pass
