"""Spans, metrics and the context that travels, with the real SDK and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from redis.asyncio import Redis

from mainflux_events import (
    Backoff,
    ConfigError,
    EncodeError,
    Event,
    GroupSubscriber,
    OrgCreated,
    Publisher,
    Retry,
    Subscriber,
    ThingRemoved,
)
from mainflux_events.contrib.opentelemetry import SCHEMA_URL, OpenTelemetry
from mainflux_events.testing import RedisServer
from mainflux_events.tracing import carried_in
from support import wait_until

STREAM = "traced"


class Telemetry:
    """An SDK of the test's own, and what has come of it."""

    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader])
        self.hooks = OpenTelemetry(tracer_provider=self.tracers, meter_provider=meters, **settings)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The points of a metric: attributes, and the sum or the histogram."""
        data = self.reader.get_metrics_data()
        scopes = (
            [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        )
        assert all(scope.schema_url == SCHEMA_URL for scope in scopes)
        return [
            (dict(point.attributes or {}), point)
            for scope in scopes
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def id_of(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links_of(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


async def entries(client: Redis) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in await client.xrange(STREAM)]


async def handle(subscriber: Any, events: int, handler: Callable[[Event], Any], **options: Any) -> None:
    seen: list[Event] = []

    def counted(event: Event) -> Any:
        seen.append(event)
        return handler(event)

    async with subscriber:
        running = asyncio.create_task(subscriber.run(counted, **options))
        await wait_until(lambda: len(seen) >= events)
    await running


# ---- what travels


@pytest.mark.parametrize("idempotent", [False, True])
async def test_the_context_of_an_events_own_span_travels_with_it(
    idempotent: bool, telemetry: Telemetry, server: RedisServer, client: Redis
) -> None:
    tracer = telemetry.tracers.get_tracer("test")
    async with Publisher(server.url, STREAM, idempotent=idempotent, hooks=telemetry.hooks) as publisher:
        with tracer.start_as_current_span("request") as request:
            await publisher.publish(OrgCreated("o1"))
        await publisher.flush()
    [created] = telemetry.spans("create")
    [entry] = await entries(client)
    trace_id, span_id = id_of(created)
    assert created.context is not None
    flags = b"%02x" % created.context.trace_flags
    assert entry[b"traceparent"] == f"00-{trace_id:032x}-{span_id:016x}-".encode() + flags
    assert b"tracestate" not in entry
    assert created.parent is not None
    assert created.parent.span_id == request.get_span_context().span_id
    assert (created.name, created.kind) == ("create traced", SpanKind.PRODUCER)


async def test_without_the_hook_nothing_travels(server: RedisServer, client: Redis) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("request"):
        async with Publisher(server.url, STREAM) as publisher:
            await publisher.send(OrgCreated("o1"))
    [entry] = await entries(client)
    assert {b"traceparent", b"tracestate", b"baggage"}.isdisjoint(entry)


async def test_from_another_thread_the_context_of_that_thread_travels(
    telemetry: Telemetry, server: RedisServer
) -> None:
    tracer = telemetry.tracers.get_tracer("test")
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:

        def endpoint() -> int:
            with tracer.start_as_current_span("request") as request:
                publisher.publish_threadsafe(OrgCreated("o1"))
                return request.get_span_context().span_id

        span_id = await asyncio.to_thread(endpoint)
    [created] = telemetry.spans("create")
    assert created.parent is not None
    assert created.parent.span_id == span_id


async def test_without_spans_of_their_own_the_active_one_travels(server: RedisServer, client: Redis) -> None:
    telemetry = Telemetry(create_spans=False)
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        with telemetry.tracers.get_tracer("test").start_as_current_span("request") as request:
            await publisher.publish(OrgCreated("o1"))
        await publisher.flush()
        await publisher.send(OrgCreated("o2"))
    first, second = await entries(client)
    assert first[b"traceparent"].split(b"-")[2] == b"%016x" % request.get_span_context().span_id
    assert b"traceparent" not in second
    assert telemetry.spans("create") == []


async def test_baggage_travels_where_the_propagator_takes_it(server: RedisServer, client: Redis) -> None:
    both = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    telemetry = Telemetry(propagator=both)
    found: list[object] = []
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        token = context.attach(baggage.set_baggage("tenant", "t 1"))
        await publisher.send(OrgCreated("o1"))
        context.detach(token)
    [entry] = await entries(client)
    assert entry[b"baggage"] == b"tenant=t+1"
    subscriber = Subscriber(server.url, STREAM, "s", start="earliest", hooks=telemetry.hooks)
    await handle(subscriber, 1, lambda event: found.append(baggage.get_baggage("tenant")))
    assert found == ["t 1"]


def test_a_propagator_that_needs_other_fields_is_refused() -> None:
    class Other(TraceContextTextMapPropagator):
        @property
        def fields(self) -> set[str]:
            return {"b3"}

    with pytest.raises(ConfigError, match="'b3'"):
        OpenTelemetry(propagator=Other())


async def test_what_travels_counts_in_the_size_of_the_event(
    telemetry: Telemetry, server: RedisServer
) -> None:
    event = OrgCreated("o" * 300)
    async with Publisher(server.url, STREAM, max_event_bytes=560) as publisher:
        await publisher.send(event)
    async with Publisher(server.url, STREAM, max_event_bytes=560, hooks=telemetry.hooks) as publisher:
        with pytest.raises(EncodeError, match="max_event_bytes"):
            await publisher.publish(event)


async def test_an_event_that_is_forwarded_keeps_the_context_that_it_came_with(
    telemetry: Telemetry, server: RedisServer, client: Redis
) -> None:
    async with (
        Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher,
        Subscriber(server.url, STREAM, "s", start="earliest") as subscriber,
    ):
        await publisher.send(OrgCreated("o1"))
        await publisher.forward(await anext(subscriber))
        await publisher.flush()
    first, second = await entries(client)
    assert list(first.items()) == list(second.items())
    assert len(telemetry.spans("create")) == 1


# ---- sending


async def test_a_batch_is_one_span_that_links_to_its_events(
    telemetry: Telemetry, server: RedisServer
) -> None:
    with telemetry.tracers.get_tracer("test").start_as_current_span("start-up"):
        publisher = Publisher(server.url, STREAM, hooks=telemetry.hooks)
        await publisher.start()
    for number in range(3):
        publisher.publish_nowait(OrgCreated(f"o{number}"))
    await publisher.flush()
    await publisher.aclose()
    [sent] = telemetry.spans("send")
    assert (sent.name, sent.kind, sent.parent) == ("send traced", SpanKind.CLIENT, None)
    assert links_of(sent) == [id_of(span) for span in telemetry.spans("create")]
    assert dict(sent.attributes or {}) == {
        messaging_attributes.MESSAGING_SYSTEM: "redis",
        messaging_attributes.MESSAGING_DESTINATION_NAME: STREAM,
        messaging_attributes.MESSAGING_OPERATION_NAME: "send",
        messaging_attributes.MESSAGING_OPERATION_TYPE: "send",
        messaging_attributes.MESSAGING_BATCH_MESSAGE_COUNT: 3,
    }
    assert sent.status.status_code is StatusCode.UNSET
    assert sent.start_time is not None
    assert sent.end_time is not None
    assert 0 < sent.end_time - sent.start_time < 5e9
    [(attributes, point)] = telemetry.metric(messaging_metrics.MESSAGING_CLIENT_SENT_MESSAGES)
    assert (point.value, attributes["messaging.destination.name"]) == (3, STREAM)
    [(_, point)] = telemetry.metric(messaging_metrics.MESSAGING_CLIENT_OPERATION_DURATION)
    assert (point.count, point.sum) == (1, pytest.approx((sent.end_time - sent.start_time) / 1e9, abs=1e-6))


@pytest.mark.parametrize("idempotent", [False, True])
async def test_an_attempt_that_the_server_refuses_is_a_span_of_its_own_with_the_error(
    idempotent: bool, telemetry: Telemetry, fresh_server: RedisServer
) -> None:
    backoff = Backoff(initial=0.01, maximum=0.02)
    settings = {"idempotent": idempotent, "backoff": backoff, "hooks": telemetry.hooks}
    async with Publisher(fresh_server.url, STREAM, **settings) as publisher:  # type: ignore[arg-type]
        await publisher.send(OrgCreated("o0"))
        await fresh_server.command("CONFIG", "SET", "maxmemory", "1")
        publisher.publish_nowait(OrgCreated("o1"))
        publisher.publish_nowait(OrgCreated("o2"))
        await wait_until(lambda: len(telemetry.spans("send")) > 1)
        await fresh_server.command("CONFIG", "SET", "maxmemory", "0")
        await publisher.flush()
    first, *failed, last = telemetry.spans("send")
    for span in failed:
        assert (span.status.status_code, span.attributes and span.attributes["error.type"]) == (
            StatusCode.ERROR,
            "OOM",
        )
        assert len(span.links) == 2
    assert [span.status.status_code for span in (first, last)] == [StatusCode.UNSET] * 2
    points = telemetry.metric("messaging.client.sent.messages")
    counts = {attributes.get("error.type"): point.value for attributes, point in points}
    assert counts == {None: 3, "OOM": 2 * len(failed)}


async def test_an_attempt_that_nobody_answers_is_told_too(
    telemetry: Telemetry, fresh_server: RedisServer
) -> None:
    settings = {"attempt_timeout": 0.1, "close_timeout": 0.0, "hooks": telemetry.hooks}
    async with Publisher(fresh_server.url, STREAM, **settings) as publisher:  # type: ignore[arg-type]
        await publisher.send(OrgCreated("o0"))
        fresh_server.hang()
        await publisher.publish(OrgCreated("o1"))
        await wait_until(lambda: len(telemetry.spans("send")) == 2)
        fresh_server.resume()
    assert (telemetry.spans("send")[1].attributes or {})["error.type"] == "disconnected"


# ---- handling


@pytest.mark.parametrize("kind", [Subscriber, GroupSubscriber])
async def test_a_handler_works_in_a_span_that_is_linked_to_the_event_and_its_child(
    kind: Any, telemetry: Telemetry, server: RedisServer
) -> None:
    active: list[tuple[int, int]] = []
    seen: list[Event] = []

    async def note(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event)
        found = trace.get_current_span().get_span_context()
        active.append((found.trace_id, found.span_id))

    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        await publisher.publish(OrgCreated("o1"))
    await handle(kind(server.url, STREAM, "audit", start="earliest", hooks=telemetry.hooks), 1, note)
    [created], [processed] = telemetry.spans("create"), telemetry.spans("process")
    assert active == [id_of(processed)]
    assert (processed.name, processed.kind) == ("process traced", SpanKind.CONSUMER)
    assert links_of(processed) == [id_of(created)]
    assert processed.parent is not None
    assert (processed.parent.trace_id, processed.parent.span_id) == id_of(created)
    assert dict(processed.attributes or {}) == {
        messaging_attributes.MESSAGING_SYSTEM: "redis",
        messaging_attributes.MESSAGING_DESTINATION_NAME: STREAM,
        messaging_attributes.MESSAGING_OPERATION_NAME: "process",
        messaging_attributes.MESSAGING_OPERATION_TYPE: "process",
        messaging_attributes.MESSAGING_CONSUMER_GROUP_NAME: "audit",
        messaging_attributes.MESSAGING_MESSAGE_ID: seen[0].id,
    }
    [(attributes, point)] = telemetry.metric(messaging_metrics.MESSAGING_CLIENT_CONSUMED_MESSAGES)
    assert (point.value, attributes["messaging.consumer.group.name"]) == (1, "audit")
    assert telemetry.metric(messaging_metrics.MESSAGING_PROCESS_DURATION)[0][1].count == 1


async def test_a_batch_is_handled_in_one_span_that_is_linked_to_each_of_its_events(
    telemetry: Telemetry, server: RedisServer
) -> None:
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        await publisher.publish(OrgCreated("o1"))
        await publisher.publish(OrgCreated("o2"))
    batches: list[list[Event]] = []
    async with Subscriber(server.url, STREAM, "s", start="earliest", hooks=telemetry.hooks) as subscriber:
        running = asyncio.create_task(subscriber.run(batches.append, batch=2))
        await wait_until(lambda: batches)
    await running
    [processed] = telemetry.spans("process")
    assert links_of(processed) == [id_of(span) for span in telemetry.spans("create")]
    assert (processed.parent, len(batches[0])) == (None, 2)
    [(_, point)] = telemetry.metric("messaging.client.consumed.messages")
    assert point.value == 2


async def test_in_another_span_the_handlers_span_is_that_ones_child_and_linked_to_the_event(
    telemetry: Telemetry, server: RedisServer
) -> None:
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        await publisher.publish(OrgCreated("o1"))
    with telemetry.tracers.get_tracer("test").start_as_current_span("job") as job:
        subscriber = Subscriber(server.url, STREAM, "audit", start="earliest", hooks=telemetry.hooks)
        await handle(subscriber, 1, lambda event: None)
    [created], [processed] = telemetry.spans("create"), telemetry.spans("process")
    assert processed.parent is not None
    assert processed.parent.span_id == job.get_span_context().span_id
    assert links_of(processed) == [id_of(created)]


async def test_an_event_without_a_context_or_with_a_wrong_one_is_handled_in_a_trace_of_its_own(
    telemetry: Telemetry, server: RedisServer, client: Redis
) -> None:
    await client.xadd(STREAM, {"operation": "thing.remove", "id": "t1"})
    await client.xadd(STREAM, {"operation": "thing.remove", "id": "t2", "traceparent": "nonsense \u00ff"})
    handled: list[Event] = []
    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest", hooks=telemetry.hooks)
    await handle(subscriber, 2, handled.append)
    assert [event.action for event in handled] == [ThingRemoved("t1"), ThingRemoved("t2")]
    assert [(span.parent, links_of(span)) for span in telemetry.spans("process")] == [(None, []), (None, [])]


async def test_each_attempt_of_a_handler_is_a_span_and_a_failure_is_its_error(
    telemetry: Telemetry, server: RedisServer
) -> None:
    async with Publisher(server.url, STREAM) as publisher:
        await publisher.publish(OrgCreated("o1"))
    calls: list[Event] = []

    def fail_once(event: Event) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise LookupError("no such thing")

    subscriber = Subscriber(server.url, STREAM, "audit", start="earliest", hooks=telemetry.hooks)
    await handle(subscriber, 2, fail_once, retry=Retry(attempts=2, initial=0.001))
    failed, succeeded = telemetry.spans("process")
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})[error_attributes.ERROR_TYPE] == "LookupError"
    assert [event.name for event in failed.events] == ["exception"]
    assert succeeded.status.status_code is StatusCode.UNSET
    points = telemetry.metric("messaging.client.consumed.messages")
    assert {attributes.get("error.type"): point.value for attributes, point in points} == {
        None: 1,
        "LookupError": 1,
    }


async def test_waiting_for_events_makes_no_span(telemetry: Telemetry, server: RedisServer) -> None:
    async with Subscriber(server.url, STREAM, "audit", hooks=telemetry.hooks) as subscriber:
        running = asyncio.create_task(subscriber.run(lambda event: None))
        await wait_until(lambda: subscriber.health().last_read is not None)  # a read that gave nothing
    await running
    assert telemetry.spans() == []


async def test_in_a_loop_its_body_may_work_in_such_a_span(telemetry: Telemetry, server: RedisServer) -> None:
    async with Publisher(server.url, STREAM, hooks=telemetry.hooks) as publisher:
        await publisher.publish(OrgCreated("o1"))
        await publisher.publish(OrgCreated("o2"))
    async with Subscriber(server.url, STREAM, "audit", start="earliest") as subscriber:
        events = [await anext(subscriber), await anext(subscriber)]
    with telemetry.hooks.processing(events[0], "audit") as span:
        assert trace.get_current_span() is span
    with telemetry.hooks.processing(events):
        pass
    first, second = telemetry.spans("create")
    single, several = telemetry.spans("process")
    assert links_of(single) == [id_of(first)]
    assert (links_of(several), several.parent) == ([id_of(first), id_of(second)], None)
    assert (several.attributes or {})["messaging.batch.message_count"] == 2


# ---- by the conventions


def version_of(schema: str) -> tuple[int, ...]:
    return tuple(int(part) for part in schema.rpartition("/")[2].split("."))


def test_the_version_that_is_named_is_one_that_there_is_and_the_names_are_its() -> None:
    known_versions = {version_of(schema.value) for schema in Schemas}
    # The lowest version of the conventions that may be installed is older than the one that is followed.
    assert version_of(SCHEMA_URL) in known_versions or version_of(SCHEMA_URL) > max(known_versions)
    assert SCHEMA_URL.startswith("https://opentelemetry.io/schemas/")
    provided: TextMapPropagator = TraceContextTextMapPropagator()
    assert provided.fields <= {"traceparent", "tracestate"}
    known = {value for value in vars(messaging_metrics).values() if isinstance(value, str)}
    assert {
        "messaging.client.sent.messages",
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.process.duration",
    } <= known


def test_what_travels_is_read_back_as_it_was_written() -> None:
    assert carried_in(((b"id", b"t1"), (b"traceparent", b"x"), (b"baggage", b"a=1"))) == {
        "traceparent": "x",
        "baggage": "a=1",
    }
