"""Only type-checked: what the users of events and actions see."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never, assert_type

import msgspec

from mainflux_events.actions import GroupRemoved, ProfileConfig, ProfileUpdated, ThingCreated, ThingRemoved
from mainflux_events.events import Action, Event, Identity, UnknownAction, acting_as


class Line(msgspec.Struct, frozen=True):
    sku: str


class OrderPlaced(Action, tag="order.placed"):
    order_id: str
    lines: list[Line] = []  # noqa: RUF012
    total: Decimal = Decimal(0)


class OrderShipped(OrderPlaced, tag="order.shipped", kw_only=True):
    carrier: str
    weight: float = msgspec.field(default=0.0, name="kg")


def events(event: Event) -> None:
    assert_type(event.action, Action)
    assert_type(event.identity, Identity)
    assert_type(event.org_id, str)
    assert_type(event.occurred_at, datetime | None)
    assert_type(event.id, str)
    assert_type(event.stream, str)
    assert_type(event.raw, tuple[tuple[bytes, bytes], ...])
    Event(ThingRemoved("t1"), Identity("u1", "e@x"), "o1", group_id="g1", occurred_at=None)
    Event("thing.remove")  # type: ignore[arg-type]
    Event(ThingRemoved("t1"), id="1-0")  # type: ignore[call-arg]
    event.org_id = "o2"  # type: ignore[misc]
    with acting_as(Identity("u1")) as nothing:
        assert_type(nothing, None)
    acting_as("u1")  # type: ignore[arg-type]


def actions() -> None:
    created = ThingCreated("t1", "g1", "p1", metadata={"floor": 3})
    assert_type(created.operation, str)
    assert_type(created.metadata, dict[str, Any] | None)
    assert_type(ProfileUpdated("p1").config, ProfileConfig | None)
    assert_type(GroupRemoved("g1", ["t1"]).thing_ids, list[str] | None)
    assert_type(UnknownAction("thing.bogus").operation, str)
    ThingCreated("t1")  # type: ignore[call-arg]
    ThingRemoved(5)  # type: ignore[arg-type]
    ThingRemoved("t1", operation="thing.create")  # type: ignore[call-arg]


def actions_of_ones_own() -> None:
    placed = OrderPlaced("o1", total=Decimal(5))
    assert_type(placed.lines, list[Line])
    assert_type(placed.operation, str)
    Event(placed)
    OrderPlaced()  # type: ignore[call-arg]
    OrderShipped("o1", carrier="c", weight=1.5)
    OrderShipped("o1", [], Decimal(0), "c")  # type: ignore[call-arg]


def match_an_event(event: Event) -> str:
    match event.action:
        case ThingRemoved(id=thing_id):
            return assert_type(thing_id, str)
        case OrderPlaced(lines=[Line(sku=sku), *_]):
            return assert_type(sku, str)
        case UnknownAction(operation, fields):
            return operation + assert_type(fields.get("id", ""), str)
        case _:
            return ""


def match_all_of_some(action: ThingCreated | ThingRemoved) -> str:
    match action:
        case ThingCreated(name=name):
            return name
        case ThingRemoved(id=thing_id):
            return thing_id
        case _:
            assert_never(action)
