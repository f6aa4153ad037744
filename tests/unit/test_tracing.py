"""What travels with an event beside its own fields, and who is called in place of a handler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mainflux_events import Event, Hooks, Identity, Publisher, ThingRemoved, wire
from mainflux_events.hooks import Observers
from mainflux_events.idempotent import Counted
from mainflux_events.resp import Append, Heads
from mainflux_events.tracing import Tracing, carried_in, encoder, wrapped

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = Event(ThingRemoved("t1"), Identity("u1", "ana@example.com"), org_id="o1")


class Carrying(Tracing):
    def __init__(self, **fields: str) -> None:
        self.fields = fields

    def carried(self, stream: str, operation: str) -> Mapping[str, str]:
        assert (stream, operation) == ("things", "thing.remove")
        return self.fields


class Failing(Tracing):
    def carried(self, stream: str, operation: str) -> Mapping[str, str]:
        raise LookupError


@pytest.mark.parametrize("heads", [Append("things", 1000), Append("things", None), Counted()])
def test_what_travels_stands_behind_the_events_own_fields_in_every_form(heads: Heads) -> None:
    plain = heads.fields_of(wire.encode(EVENT, heads))
    encode = encoder("things", Observers(Carrying(traceparent=TRACEPARENT, tracestate="a=1")))
    packed = encode(EVENT, heads)
    found = heads.fields_of(packed)
    moment = plain.index(b"occurred_at") + 1  # between the two, time goes on
    assert found[:moment] == plain[:moment]
    assert found[len(plain) :] == [b"traceparent", TRACEPARENT.encode(), b"tracestate", b"a=1"]
    assert packed.startswith(heads[len(found)])
    assert heads.count(packed) == len(found)


def test_more_is_put_behind_what_is_there_where_the_head_grows_with_the_number() -> None:
    heads = Append("things", None)
    few = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    packed = heads.with_more(wire.pack_raw(few, heads), [b"traceparent", b"x"])
    assert len(heads[6]) < len(heads[8])
    assert packed == wire.pack_raw([*few, (b"traceparent", b"x")], heads)


def test_what_travels_takes_no_part_in_the_event_and_is_in_its_raw_fields() -> None:
    heads = Append("things", None)
    packed = encoder("things", Observers(Carrying(traceparent=TRACEPARENT)))(EVENT, heads)
    event = wire.decode(heads.fields_of(packed), "things", "1-0")
    assert (event.action, event.identity, event.org_id) == (EVENT.action, EVENT.identity, EVENT.org_id)
    assert carried_in(event.raw) == {"traceparent": TRACEPARENT}


def test_several_let_each_add_something() -> None:
    heads = Append("things", None)
    observers = Observers([Carrying(traceparent=TRACEPARENT), Hooks(), Carrying(baggage="a=1")])
    packed = encoder("things", observers)(EVENT, heads)
    found = wire.decode(heads.fields_of(packed)).raw
    assert carried_in(found) == {"traceparent": TRACEPARENT, "baggage": "a=1"}


@pytest.mark.parametrize("hooks", [(), [Hooks()]])
def test_without_one_who_traces_an_event_is_encoded_as_ever(hooks: Any) -> None:
    assert encoder("things", Observers(hooks)) is wire.encode
    assert Publisher("redis://nowhere", "things", hooks=hooks)._lanes[0]._encode is wire.encode


@pytest.mark.parametrize(
    "tracing", [Failing(), Carrying(operation="thing.create"), Carrying(baggage="\ud800")]
)
def test_one_that_raises_or_claims_a_name_of_the_event_is_logged_and_the_event_goes_without_it(
    tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    heads = Append("things", None)
    with caplog.at_level(logging.ERROR, "mainflux_events"):
        packed = encoder("things", Observers(tracing))(EVENT, heads)
    found = wire.decode(heads.fields_of(packed))
    assert (found.action, carried_in(found.raw)) == (EVENT.action, {})
    assert f"hook_failed: {type(tracing).__name__}.carried raised" in caplog.text


def test_a_handler_is_called_within_each_the_first_being_the_outermost() -> None:
    calls: list[str] = []

    class Around(Tracing):
        def __init__(self, name: str) -> None:
            self.name = name

        def around(self, handler: Callable[[Any], Any], subscriber: str) -> Callable[[Any], Any]:
            def called(event: Any) -> Any:
                calls.append(f"{self.name} of {subscriber}")
                return handler(event)

            return called

    handler = wrapped(calls.append, "audit", Observers([Around("a"), Hooks(), Around("b")]))
    handler("handler")
    assert calls == ["a of audit", "b of audit", "handler"]


def test_without_one_who_traces_the_handler_itself_is_called() -> None:
    assert wrapped(print, "audit", Observers(Hooks())) is print


def test_by_itself_the_base_class_adds_nothing() -> None:
    assert Tracing().carried("things", "thing.remove") == {}
    assert Tracing().around(print, "audit") is print
