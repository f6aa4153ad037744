from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft7Validator
from jsonschema.validators import Draft202012Validator

from mainflux_events import Action, ConfigError, Event, Identity, OrgRemoved, ThingCreated
from mainflux_events.actions import PLATFORM_ACTIONS
from mainflux_events.resp import Append
from mainflux_events.schema import asyncapi
from mainflux_events.wire import encode, fields_of

# The official schema of AsyncAPI 3.0.0, out of the npm package @asyncapi/specs (Apache-2.0).
OFFICIAL = json.loads((Path(__file__).parent.parent / "reference" / "asyncapi-3.0.0.json").read_text())


class SchemaLine(msgspec.Struct, frozen=True):
    sku: str
    price: Decimal = Decimal(0)


class SchemaOrdered(Action, tag="test.schema.ordered"):
    """An order was placed.

    Somewhere in the shop.
    """

    order_id: str
    code: Annotated[str, msgspec.Meta(max_length=5)]
    note: str | None = None
    lines: list[SchemaLine] = []  # noqa: RUF012 - msgspec copies it


def payload(document: dict[str, Any], operation: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["messages"][operation]["payload"]
    return found


def entry(action: Action) -> dict[str, str]:
    heads = Append("s", None)
    packed = encode(Event(action, Identity("u1", "u1@example.com"), "o1", "g1"), heads)
    return {name.decode(): value.decode() for name, value in fields_of(heads.fields_of(packed)).items()}


@pytest.mark.parametrize(
    "streams",
    [None, {"shop.orders": [SchemaOrdered]}, {"a": [SchemaOrdered, OrgRemoved], "b/{x}": [OrgRemoved]}],
)
def test_the_document_is_valid_by_the_official_schema(streams: Any) -> None:
    document = asyncapi() if streams is None else asyncapi(streams, title="Shop", version="2.1.0")
    Draft7Validator(OFFICIAL).validate(document)


def test_the_official_schema_would_say_what_is_wrong() -> None:
    document = asyncapi()
    del document["info"]["version"]
    assert not Draft7Validator(OFFICIAL).is_valid(document)


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi({"shop.orders": [SchemaOrdered], "a/b": [OrgRemoved]})
    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}
    assert len(references) >= 5
    for reference in references:
        place: Any = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_by_default_it_describes_the_streams_of_the_platform() -> None:
    channels = asyncapi()["channels"]
    described = [name for channel in channels.values() for name in channel["messages"]]
    assert set(channels) == {"mainflux.things", "mainflux.auth"}
    assert sorted(described) == sorted(action.operation for action in PLATFORM_ACTIONS)


@pytest.mark.parametrize(
    "action",
    [
        ThingCreated(id="t", group_id="g", profile_id="p", name="n", metadata={"a": 1}),
        OrgRemoved(id="o"),
        SchemaOrdered(order_id="1", code="x", note="soon", lines=[SchemaLine("s", Decimal("1.5"))]),
        SchemaOrdered(order_id="1", code="x"),
    ],
)
def test_an_entry_is_what_its_payload_says(action: Action) -> None:
    document = asyncapi({"s": [type(action)]})
    schema = payload(document, action.operation)
    written = entry(action)
    Draft202012Validator(schema).validate(written)
    for field, described in schema["properties"].items():
        if "contentSchema" in described and field in written:
            inner = described["contentSchema"] | {"components": document["components"]}
            Draft202012Validator(inner).validate(json.loads(written[field]))


def test_a_field_that_is_missing_or_wrong_is_against_the_schema() -> None:
    schema = payload(asyncapi({"s": [SchemaOrdered]}), "test.schema.ordered")
    written = entry(SchemaOrdered(order_id="1", code="x"))
    for broken in (
        {name: value for name, value in written.items() if name != "order_id"},
        written | {"operation": "another"},
        written | {"code": "longer than five"},
    ):
        assert not Draft202012Validator(schema).is_valid(broken)


def test_a_message_has_the_first_line_of_the_docstring() -> None:
    message = asyncapi({"s": [SchemaOrdered]})["components"]["messages"]["test.schema.ordered"]
    assert (message["title"], message["summary"]) == ("SchemaOrdered", "An order was placed.")


@pytest.mark.parametrize("streams", [{}, {"": [OrgRemoved]}, {"s": []}, {"s": [str]}, {"s": OrgRemoved}])
def test_what_is_no_stream_with_classes_is_refused(streams: Any) -> None:
    with pytest.raises(ConfigError, match="stream"):
        asyncapi(streams)
