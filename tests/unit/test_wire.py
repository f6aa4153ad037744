"""Events to the fields of an entry and back, against what the reference recorded."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import hiredis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainflux_events import codec, values
from mainflux_events.actions import (
    PLATFORM_ACTIONS,
    GroupRemoved,
    OrgRemoved,
    ProfileConfig,
    ProfileUpdated,
    ThingCreated,
    ThingRemoved,
    Transformer,
)
from mainflux_events.errors import DecodeError, EncodeError
from mainflux_events.events import Action, Event, Identity, UnknownAction, acting_as
from mainflux_events.resp import Append
from mainflux_events.wire import decode, decode_plain, encode, fields_of, operation_of, pack_raw
from support import REFERENCE

HEADS = Append("mainflux.things", 100_000)
HEAD = b"XADD mainflux.things MAXLEN ~ 100000 *".split()
MOMENT = datetime(2026, 6, 26, 10, 11, 12, 500_000, UTC)


def parsed(packed: bytes) -> list[bytes]:
    """The fields of the one command that these bytes are, names and values in turn."""
    reader = hiredis.Reader()
    reader.feed(packed)
    arguments = reader.gets()
    assert isinstance(arguments, list)
    assert not reader.has_data(), "more than one command"
    assert arguments[: len(HEAD)] == HEAD
    return arguments[len(HEAD) :]


def sent(event: Event | Action) -> dict[bytes, bytes]:
    return fields_of(parsed(encode(event, HEADS)))


def received(*parts: bytes) -> Event:
    return decode(list(parts), "mainflux.things", "5-1")


# --- what the reference recorded ------------------------------------------------------------------------------------

VECTORS = {case["name"]: case for case in json.loads((REFERENCE / "vectors.json").read_bytes())}
CAPTURE = [json.loads(line) for line in (REFERENCE / "capture.jsonl").read_bytes().splitlines()]


def entry_of(case: dict[str, Any]) -> list[bytes]:
    if "fields_base64" in case:
        return [base64.b64decode(part) for pair in case["fields_base64"] for part in pair]
    return [part.encode() for pair in case["fields"] for part in pair]


def canonical(fields: dict[bytes, bytes]) -> dict[bytes, Any]:
    """Fields to compare by: JSON by its value, a time to the microsecond."""
    compared: dict[bytes, Any] = dict(fields)
    for name in {b"metadata", b"config"} & fields.keys():
        compared[name] = json.loads(fields[name])
    if b"occurred_at" in fields:
        compared[b"occurred_at"] = values.time_of(fields[b"occurred_at"])
    return compared


@pytest.mark.parametrize("name", VECTORS)
def test_an_entry_is_read_as_the_reference_reads_it(name: str) -> None:
    case = VECTORS[name]
    event = decode(entry_of(case), "s", "1-0")
    expected = case["decoded"]
    if expected is None:
        assert isinstance(event.action, UnknownAction)
        return
    assert event.action.operation == expected["operation"]
    action = msgspec.to_builtins(event.action)
    del action["operation"]
    # A number of Python's is exact where one of Go's is rounded.
    assert json.loads(json.dumps(action), parse_int=float) == json.loads(
        json.dumps(expected["action"]), parse_int=float
    )
    assert msgspec.to_builtins(event.identity) == expected["identity"]
    assert (event.org_id, event.group_id) == (expected["org_id"], expected["group_id"])
    assert event.occurred_at == values.time_of(expected["occurred_at"].encode())


@pytest.mark.parametrize("name", [name for name in VECTORS if name.startswith("go:")])
def test_an_event_is_written_as_the_reference_writes_it(name: str) -> None:
    entry = entry_of(VECTORS[name])
    expected = canonical(fields_of(entry))
    written = canonical(sent(decode(entry)))
    if b"occurred_at" not in expected:
        # Absent, it is now.
        assert written.pop(b"occurred_at") is not None
    assert written == expected


@pytest.mark.parametrize("name", [name for name, case in VECTORS.items() if case["decoded"]])
def test_what_was_read_is_written_and_read_again(name: str) -> None:
    event = decode(entry_of(VECTORS[name]))
    again = received(*parsed(encode(event, HEADS)))
    if name == "email_without_id":
        # Read, but not written: so it does not come back.
        event = msgspec.structs.replace(event, identity=Identity())
    if event.occurred_at is None:
        again = msgspec.structs.replace(again, occurred_at=None)
    assert again == event


def test_what_was_captured_is_read_written_and_forwarded() -> None:
    assert len(CAPTURE) == 3_000
    operations = set()
    for entry_id, fields in CAPTURE:
        entry = [part.encode() for pair in fields.items() for part in pair]
        event = decode(entry, "mainflux.things", entry_id)
        operations.add(event.action.operation)
        packed = parsed(encode(event, HEADS))
        assert canonical(fields_of(packed)) == canonical(fields_of(entry)), entry_id
        assert received(*packed) == event, entry_id
        assert parsed(pack_raw(event.raw, HEADS)) == entry, entry_id
    assert operations == {action.operation for action in PLATFORM_ACTIONS}


# --- properties -----------------------------------------------------------------------------------------------------

# Anything at all, and texts that would break a protocol.
texts = st.one_of(
    st.text(st.characters(codec=None), max_size=8),
    st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=3),
    st.sampled_from(
        ["", "\r\n", "$5\r\nhello\r\n", "*1\r\n$4\r\nPING\r\n", "\0", "a,b", "x" * 1023, "x" * 1024]
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=4,
)
configs = st.builds(
    ProfileConfig,
    content_type=texts,
    transformer=st.builds(
        Transformer, data_filters=st.none() | st.lists(texts, max_size=3), data_field=texts
    ),
    write_enabled=st.booleans(),
)
OF_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "metadata": st.none() | st.dictionaries(texts, json_values, max_size=3),
    "config": st.none() | configs,
    "thing_ids": st.none() | st.lists(texts, min_size=1, max_size=3),
}
actions = st.one_of(
    [
        st.builds(action, **{name: OF_FIELDS.get(name, texts) for name in action.__struct_fields__})
        for action in PLATFORM_ACTIONS
    ]
)
identities = st.just(Identity()) | st.builds(Identity, texts.filter(bool), texts)
events = st.builds(Event, actions, identities, texts, texts, st.none() | st.datetimes(timezones=st.just(UTC)))


@given(events)
def test_an_event_comes_back_equal_or_is_refused(event: Event) -> None:
    try:
        outcome: object = encode(event, HEADS)
    except EncodeError as error:
        outcome = error
    if isinstance(outcome, EncodeError):
        assert (outcome.operation, bool(outcome.field)) == (event.action.operation, True)
        return
    assert isinstance(outcome, bytes)
    again = received(*parsed(outcome))
    if event.occurred_at is None:
        again = msgspec.structs.replace(again, occurred_at=None)
    assert again == event


plain_texts = texts.filter(lambda text: text.isascii() and "," not in text)
plain_actions = st.one_of(
    [
        st.builds(action, **{name: plain_texts for name in action.__struct_fields__ if name not in OF_FIELDS})
        for action in PLATFORM_ACTIONS
    ]
)


@given(plain_actions)
def test_plain_text_is_never_refused(action: Action) -> None:
    assert received(*parsed(encode(action, HEADS))).action == action


names = st.sampled_from(
    sorted(
        {name.encode() for action in PLATFORM_ACTIONS for name in action.__struct_fields__}
        | {b"operation", *codec.ENVELOPE.values()}
    )
)
octets = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [
            b"null",
            b"{}",
            b'{"a":"\\ud800"}',
            b'{"transformer":{"data_filters":[null]}}',
            b"2026-06-26T10:11:12Z",
        ]
    ),
)


@given(
    st.sampled_from(PLATFORM_ACTIONS),
    st.lists(st.tuples(names | st.binary(max_size=4), octets), max_size=8),
)
def test_an_entry_of_the_platform_always_reads(
    action: type[Action], pairs: list[tuple[bytes, bytes]]
) -> None:
    operation = (b"operation", action.operation.encode())
    event = received(*(part for pair in [*pairs, operation] for part in pair))
    assert type(event.action) is action


class Order(Action, tag="wire.order"):
    name: str
    count: int
    weights: dict[str, float] = {}  # noqa: RUF012 - msgspec makes a new one each time


@given(st.lists(st.tuples(st.sampled_from([b"name", b"count", b"weights"]) | names, octets), max_size=8))
def test_an_entry_of_ones_own_reads_or_is_an_error_of_decoding(pairs: list[tuple[bytes, bytes]]) -> None:
    entry = [part for pair in [*pairs, (b"operation", b"wire.order")] for part in pair]
    try:
        outcome: object = decode(entry, "mainflux.things", "5-1").action
    except DecodeError as error:
        outcome = error
    if isinstance(outcome, DecodeError):
        assert (outcome.operation, outcome.stream, outcome.id) == ("wire.order", "mainflux.things", "5-1")
        assert outcome.field in ("name", "count", "weights")
    else:
        assert isinstance(outcome, Order)


# --- encoding -------------------------------------------------------------------------------------------------------


def test_fields_are_in_one_order() -> None:
    event = Event(ThingCreated("t1", "g1", "p1", "n", {"a": 1}), Identity("u1", "e@x"), "o1", "g2", MOMENT)
    assert parsed(encode(event, HEADS)) == [
        *(b"operation", b"thing.create", b"id", b"t1", b"group_id", b"g1", b"profile_id", b"p1"),
        *(b"name", b"n", b"metadata", b'{"a":1}', b"evt_org_id", b"o1", b"evt_group_id", b"g2"),
        *(b"jwt_identity_user_id", b"u1", b"jwt_identity_user_email", b"e@x"),
        *(b"occurred_at", b"2026-06-26T10:11:12.5Z"),
    ]


def test_what_is_empty_is_left_out_and_the_envelope_is_not() -> None:
    assert list(sent(ProfileUpdated("p1"))) == [
        *(b"operation", b"id", b"evt_org_id", b"evt_group_id", b"occurred_at")
    ]


def test_empty_metadata_is_written() -> None:
    assert sent(ProfileUpdated("p1", metadata={}))[b"metadata"] == b"{}"


@pytest.mark.parametrize("thing_ids", [None, [], ()])
def test_no_thing_ids_are_not_written(thing_ids: Any) -> None:
    assert b"thing_ids" not in sent(GroupRemoved("g1", thing_ids))


@pytest.mark.parametrize(
    ("thing_ids", "reason"),
    [
        ([""], "single empty ID"),
        (["a", "b,c"], "comma"),
        (["a", 5], "must be a str, not int"),
        ("a", "must be a list of str"),
    ],
)
def test_thing_ids_that_would_not_come_back_are_refused(thing_ids: Any, reason: str) -> None:
    with pytest.raises(EncodeError, match=f"^group.remove, field 'thing_ids': .*{reason}"):
        encode(GroupRemoved("g1", thing_ids), HEADS)


@pytest.mark.parametrize(
    "config",
    [{"content_type": "x"}, ProfileConfig(write_enabled=1), ProfileConfig(content_type=None), 5],  # type: ignore[arg-type]
)
def test_only_a_well_typed_configuration_is_written(config: Any) -> None:
    with pytest.raises(EncodeError, match="^profile.update, field 'config': "):
        encode(ProfileUpdated("p1", config=config), HEADS)


def test_a_bare_action_is_an_event_without_an_envelope() -> None:
    assert sent(Event(ThingRemoved("t1"), occurred_at=MOMENT)) == {
        **sent(ThingRemoved("t1")),
        b"occurred_at": b"2026-06-26T10:11:12.5Z",
    }


def test_an_absent_time_is_now() -> None:
    before = datetime.now(UTC)
    written = received(*parsed(encode(ThingRemoved("t1"), HEADS))).occurred_at
    assert written is not None
    assert before - timedelta(microseconds=1) <= written <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("org_id", "\ud800"),
        ("org_id", None),
        ("group_id", 5),
        ("identity", None),
        ("identity.id", Identity("\udcc3\udca9")),
        ("identity.email", Identity("u1", None)),  # type: ignore[arg-type]
        ("occurred_at", MOMENT.replace(tzinfo=None)),
        ("occurred_at", "2026-06-26T10:11:12Z"),
    ],
)
def test_an_envelope_that_cannot_be_written_is_refused(field: str, value: Any) -> None:
    event = Event(ThingRemoved("t1"), **{field.partition(".")[0]: value})
    with pytest.raises(EncodeError, match=f"^thing.remove, field '{field}': "):
        encode(event, HEADS)


def test_an_email_without_an_id_is_not_written() -> None:
    assert b"jwt_identity_user_email" not in sent(Event(ThingRemoved("t1"), Identity(email="e@x")))


def test_the_acting_identity_replaces_the_events_own() -> None:
    event = Event(ThingRemoved("t1"), Identity("u1", "u1@x"))
    with acting_as(Identity("u2")):
        written = sent(event)
    assert (written[b"jwt_identity_user_id"], written[b"jwt_identity_user_email"]) == (b"u2", b"")


def test_an_acting_identity_without_an_id_replaces_nothing() -> None:
    with acting_as(Identity(email="e@x")):
        assert sent(Event(ThingRemoved("t1"), Identity("u1")))[b"jwt_identity_user_id"] == b"u1"


@pytest.mark.parametrize("event", ["thing.remove", None, ThingRemoved, Event("thing.remove")])  # type: ignore[arg-type]
def test_only_events_and_actions_are_written(event: Any) -> None:
    with pytest.raises(EncodeError, match="an Event or an Action is wanted"):
        encode(event, HEADS)


def test_an_unknown_action_can_only_be_forwarded() -> None:
    with pytest.raises(EncodeError, match=r"thing.bogus: no class is known for it: .* forward\(\)"):
        encode(received(b"operation", b"thing.bogus"), HEADS)


def test_threads_may_encode_at_once_from_the_very_first() -> None:
    class Fresh(Action, tag="wire.fresh"):
        number: int

    together = threading.Barrier(8)

    def run(number: int) -> list[dict[bytes, bytes]]:
        together.wait(timeout=10)
        return [sent(Fresh(number)) for _ in range(50)]

    with ThreadPoolExecutor(8) as pool:
        for number, written in enumerate(pool.map(run, range(8))):
            assert {fields[b"number"] for fields in written} == {str(number).encode()}


# --- decoding -------------------------------------------------------------------------------------------------------


def test_the_last_of_duplicate_fields_wins() -> None:
    event = received(b"operation", b"org.create", b"id", b"a", b"operation", b"org.remove", b"id", b"b")
    assert event.action == OrgRemoved("b")


def test_an_unknown_operation_keeps_its_fields_apart_from_the_envelope() -> None:
    event = received(
        *(b"operation", b"thing.bogus", b"id", b"t1", b"\xff", b"\xfe", b"evt_org_id", b"o1"),
        *(b"occurred_at", b"2026-06-26T10:11:12.5Z", b"jwt_identity_user_id", b"u1"),
    )
    assert event.action == UnknownAction("thing.bogus", {"id": "t1", "\udcff": "\udcfe"})
    assert (event.org_id, event.occurred_at, event.identity) == ("o1", MOMENT, Identity("u1"))


def test_a_missing_operation_is_an_unknown_one() -> None:
    assert received(b"id", b"t1").action == UnknownAction("", {"id": "t1"})
    assert received().action == UnknownAction("")


def test_an_email_without_an_id_is_read() -> None:
    event = received(b"operation", b"org.remove", b"jwt_identity_user_email", b"e@x")
    assert event.identity == Identity(email="e@x")


def test_an_error_names_the_entry_and_holds_no_payload() -> None:
    with pytest.raises(DecodeError) as caught:
        received(b"operation", b"wire.order", b"name", b"n", b"count", b'"secret"')
    assert str(caught.value) == (
        "entry 5-1 of 'mainflux.things', wire.order, field 'count': Expected `int`, got `str`"
    )


@pytest.mark.parametrize(
    ("entry", "operation"),
    [
        ([b"operation", b"a", b"id", b"b"], b"a"),
        ([b"id", b"b", b"operation", b"a"], b"a"),
        ([b"operation", b"a", b"operation", b"b"], b"b"),
        ([b"id", b"operation", b"operation", b"a"], b"a"),
        ([b"id", b"operation"], None),
        ([b"operation", b"operation"], b"operation"),
        ([], None),
    ],
)
def test_the_operation_of_an_entry(entry: list[bytes], operation: bytes | None) -> None:
    assert operation_of(entry) == operation


FULL: dict[bytes, bytes] = {
    b"operation": b"thing.create",
    b"id": b"t1",
    b"group_id": b"g1",
    b"profile_id": b"p1",
    b"name": b"n",
    b"metadata": b'{"a":1}',
    b"evt_org_id": b"o1",
    b"evt_group_id": b"g2",
    b"jwt_identity_user_id": b"u1",
    b"jwt_identity_user_email": b"u@example.com",
    b"occurred_at": b"2026-11-23T00:00:00Z",
    b"unknown": b"operation",
}


@st.composite
def orders_of_fields(draw: st.DrawFn) -> list[bytes]:
    """Some of the fields in some order, one of them perhaps twice."""
    names = draw(st.lists(st.sampled_from([*FULL][1:]), unique=True).flatmap(st.permutations))
    if names and draw(st.booleans()):
        names = [*names, names[0]]
    names.insert(draw(st.sampled_from([0, 0, 0, len(names)])), b"operation")
    given = FULL | {b"name": draw(st.sampled_from([b"n", b""]))}
    return [part for name in names for part in (name, given[name])]


@given(st.lists(st.tuples(orders_of_fields(), st.integers(1, 4)), min_size=1, max_size=6))
def test_entries_that_follow_each_other_are_read_as_each_by_itself(
    found: list[tuple[list[bytes], int]],
) -> None:
    entries = [
        [b"%d-1" % number, fields] for number, (fields, times) in enumerate(found) for _ in range(times)
    ]
    alike = decode_plain(entries, "things")
    assert alike == [decode(fields) for _, fields in entries]
    assert [(event.stream, event.id, event.raw) for event in alike] == [
        ("things", id.decode(), decode(fields).raw) for id, fields in entries
    ]


def test_orders_beyond_those_that_are_remembered_are_read_too() -> None:
    orders = [*itertools.islice(itertools.permutations([*FULL][1:]), 3 * codec.MOST_SHAPES)]
    entries = [
        [b"1-1", [part for name in (b"operation", *names) for part in (name, FULL[name])]]
        for names in orders * 2
    ]
    assert decode_plain(entries, "things") == [decode(entries[0][1])] * len(entries)


def test_entries_are_read_as_the_class_that_was_made_last() -> None:
    def made(default: str) -> type[Action]:
        class Remade(Action, tag="remade.once"):
            id: str
            note: str = default

        return Remade

    for default in ("before", "after"):
        known = made(default)
        events = decode_plain([[b"1-1", [b"operation", b"remade.once", b"id", b"r1"]]] * 5, "things")
        assert [event.action for event in events] == [known("r1")] * 5  # type: ignore[call-arg]


@given(st.lists(st.tuples(st.binary(), st.binary()), min_size=1))
def test_raw_fields_are_packed_as_they_are(raw: list[tuple[bytes, bytes]]) -> None:
    assert parsed(pack_raw(raw, HEADS)) == [part for pair in raw for part in pair]
