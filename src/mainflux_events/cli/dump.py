"""`dump`: a stream as lines of JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from ..cursor import resolve_start
from ..errors import EventsError
from .copying.lines import line_of
from .copying.options import Since, Until
from .copying.places import resolve_end
from .copying.progress import Bar, Missing, entries, share_of
from .copying.source import Source
from .copying.transfer import link_of, open_sides
from .options import DEFAULT_REDIS, Redis, When
from .output import note
from .running import run
from .statuses import DONE, PARTLY


def dump(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream to write out.")],
    redis: Redis = DEFAULT_REDIS,
    since: Since = "earliest",
    until: Until = "new",
) -> int:
    """Write the entries of a stream to stdout, as JSON, one a line, byte for byte.

    It ends with what was there when it began. To go on later, give the last ID that was written to --since.

    Exit status: 0 if all is written, 3 if entries were removed before they could be read.

    \b
    Examples:
      mainflux-events dump mainflux.things > things.jsonl
      mainflux-events dump mainflux.things --since 1d | gzip > day.jsonl.gz
      mainflux-events dump orders --since 1526919030474-55 >> orders.jsonl
    """
    return run(_dump(stream, redis, since, until))


async def _dump(stream: str, url: str, since: When, until: When) -> int:
    source = Source(link_of(url, "--redis"), stream, None)
    missing, count, output = Missing(), 0, sys.stdout.buffer
    async with open_sides(source):
        extent = await source.extent()
        if extent.last == (0, 0):
            raise EventsError(f"{source.where}: there is no stream {stream!r}")
        now = datetime.now(UTC)
        source.end = end = resolve_end(until, extent.last_id, now)
        last = begins = resolve_start(since, extent.last_id, now)
        source.begin(begins, extent)
        with Bar(f"dump {stream}", bounded=True) as bar:
            while (read := await source.read()) is not None:
                for notice in read.told:
                    missing(notice)
                output.write(b"".join(map(line_of, read.entries)))
                output.flush()
                count += len(read.entries)
                last = read.entries[-1].id if read.entries else last
                bar.show(count, share_of(last, begins, end))
    note(f"dumped {stream!r}: {entries(count)}, up to {last}")
    return PARTLY if missing.told else DONE
