"""For OpenTelemetry: spans, metrics, and trace context that travels through the stream.

telemetry = OpenTelemetry()
Publisher(URL, THINGS_STREAM, hooks=telemetry)
Subscriber(URL, THINGS_STREAM, "audit", hooks=telemetry)

By the semantic conventions for messaging, version 1.44.0 (where they are in development). Only the API is needed; what
becomes of spans and metrics is the matter of the SDK that the application sets up.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Setter, TextMapPropagator
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._version import __version__
from ..events import Event
from ..hooks import SentDetails
from ..tracing import AnyHandler, Tracing, carried_in, check_carried

__all__ = ["OpenTelemetry"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

# The bounds of durations, in seconds, that the conventions name.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

# A span of a batch links to so many of its events at most: what an SDK keeps, unless it is told otherwise.
MOST_LINKS: Final = 128


class OpenTelemetry(Tracing):
    """Hooks for publishers and subscribers: one instance may serve all of them.

    A publisher makes a span `create` for each event, has its context travel with the event, and makes a span `send` for
    each batch, linked to those. A subscriber's `run` makes a span `process` for each call of the handler, linked to the
    events it was called with; of a single one that is handled in no other span, it is also the child. In a loop,
    `processing` does that.

    Args:
        tracer_provider: where spans go; None for the application's own.
        meter_provider: the same of metrics.
        propagator: what writes and reads the context; it may use the fields `traceparent`, `tracestate` and `baggage`.
            By default there is no baggage: it would be stored in the stream, for all who read that.
        create_spans: whether events have spans of their own. Without, the span that is active where an event is
            published travels with it.

    Raises:
        ConfigError: the propagator uses other fields.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
        create_spans: bool = True,
    ) -> None:
        self._propagator = TraceContextTextMapPropagator() if propagator is None else propagator
        check_carried(self._propagator.fields)
        self._create_spans = create_spans
        name = "mainflux_events"
        self._tracer = trace.get_tracer(name, __version__, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter(name, __version__, meter_provider, SCHEMA_URL)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages",
            "{message}",
            "Number of messages producer attempted to send to the broker.",
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Number of messages that were delivered to the application.",
        )
        self._operation_duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._process_duration = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    # --- publishing ---

    def carried(self, stream: str, operation: str) -> Mapping[str, str]:
        """The context that travels with an event, that of its own span or of the active one."""
        carrier: dict[str, str] = {}
        if not self._create_spans:
            self._propagator.inject(carrier, setter=_SETTER)
            return carrier
        span = self._tracer.start_span(
            f"create {stream}", kind=SpanKind.PRODUCER, attributes=_attributes("create", stream)
        )
        self._propagator.inject(carrier, trace.set_span_in_context(span), _SETTER)
        span.end()
        return carrier

    def sent(self, details: SentDetails) -> None:
        """A span and the metrics of a batch."""
        attributes = _attributes("send", details.stream)
        failed = attributes | {"error.type": details.error} if details.error else attributes
        self._operation_duration.record(details.seconds, failed)
        if details.acknowledged:
            self._sent.add(details.acknowledged, attributes)
        if rest := details.events - details.acknowledged:
            self._sent.add(rest, failed)
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"send {details.stream}",
            Context(),  # the one that the publisher was started in has nothing to do with it
            SpanKind.CLIENT,
            attributes | ({"messaging.batch.message_count": details.events} if details.events > 1 else {}),
            [*self._links([carried_in(fields) for fields in details.fields(MOST_LINKS)])],
            ended - int(details.seconds * 1e9),
        )
        if details.error:
            span.set_attribute("error.type", details.error)
            span.set_status(Status(StatusCode.ERROR, details.error))
        span.end(ended)

    # --- handling ---

    def around(self, handler: AnyHandler, subscriber: str) -> AnyHandler:
        """The handler, within `processing`."""

        def traced(given: Event | Sequence[Event]) -> Any:
            with ExitStack() as stack:
                stack.enter_context(self.processing(given, subscriber))
                result = handler(given)
                return _awaited(result, stack.pop_all()) if inspect.isawaitable(result) else result

        return traced

    @contextmanager
    def processing(self, given: Event | Sequence[Event], subscriber: str = "") -> Iterator[Span]:
        """Within it a span `process` is active: for the body of a loop over a subscriber.

            async for event in subscriber:
                with telemetry.processing(event, subscriber.name):
                    ...

        Args:
            given: a received event, or several that are processed together.
            subscriber: the name of the subscriber, or of the group.
        """
        events = [given] if isinstance(given, Event) else list(given)
        streams = {event.stream for event in events}
        stream = streams.pop() if len(streams) == 1 else ""
        attributes = _attributes("process", stream)
        if subscriber:
            attributes["messaging.consumer.group.name"] = subscriber
        about: dict[str, Any] = {"messaging.batch.message_count": len(events)}
        if isinstance(given, Event):
            about = {"messaging.message.id": given.id}
        carriers = [carried_in(event.raw) for event in events]
        context = self._context(carriers[0]) if isinstance(given, Event) else contexts.get_current()
        began = time.perf_counter()
        span = self._tracer.start_span(
            f"process {stream}".strip(),
            context,
            SpanKind.CONSUMER,
            attributes | about,
            [*self._links(carriers)],
        )
        token = contexts.attach(trace.set_span_in_context(span, context))
        try:
            yield span
        except BaseException as error:
            attributes["error.type"] = _name_of(type(error))
            span.set_attribute("error.type", attributes["error.type"])
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, attributes["error.type"]))
            raise
        finally:
            contexts.detach(token)
            span.end()
            self._process_duration.record(time.perf_counter() - began, attributes)
            self._consumed.add(len(events), attributes)

    def _context(self, carrier: Mapping[str, str]) -> Context:
        """What a single event is handled in: its creation, or what is active, if that is a span."""
        found = self._propagator.extract(carrier, contexts.get_current())
        active = trace.get_current_span()
        return trace.set_span_in_context(active, found) if active.get_span_context().is_valid else found

    def _links(self, carriers: Sequence[Mapping[str, str]]) -> Iterator[Link]:
        """To where events were created."""
        for carrier in carriers[:MOST_LINKS]:
            found = self._propagator.extract(carrier, Context())
            created = trace.get_current_span(found).get_span_context()
            if created.is_valid:
                yield Link(created)


class _Setter(Setter[dict[str, str]]):
    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[key] = value


_SETTER: Final = _Setter()


async def _awaited(result: Awaitable[Any], stack: ExitStack) -> Any:
    with stack:
        return await result


def _attributes(operation: str, stream: str) -> dict[str, Any]:
    found = {
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    return found | {"messaging.destination.name": stream} if stream else found


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
