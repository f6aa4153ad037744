"""`replay`: what a stream has, from here to there, appended to another one, once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ..cursor import resolve_start
from ..errors import ConfigError, EventsError
from .copying.options import Again, FromStream, KeepIds, MaxLen, Name, Since, TargetRedis, Until
from .copying.places import resolve_end
from .copying.position import KEPT, Position, Steps, derived_name, position_key
from .copying.progress import Bar, Missing, report, share_of
from .copying.source import Read, Source
from .copying.target import Target
from .copying.transfer import Shown, link_of, open_sides, refuse_itself, transfer
from .options import DEFAULT_REDIS, Json, Redis, When
from .running import run
from .statuses import DONE, PARTLY


def replay(
    source: FromStream,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The stream to append to.")],
    redis: Redis = DEFAULT_REDIS,
    to_redis: TargetRedis = "",
    since: Since = "earliest",
    until: Until = "new",
    name: Name = "",
    again: Again = False,
    keep_ids: KeepIds = False,
    max_len: MaxLen = 0,
    json: Json = False,
) -> int:
    """Copy a range of a stream into another one, byte for byte, once.

    Each entry is appended once, however often it is interrupted: how far it is, is stored beside the target, in the
    same step. The same command goes on there, and does nothing where all is copied; that is remembered for a week.

    Exit status: 0 if all is copied, 3 if entries were removed before they could be read.

    \b
    Examples:
      mainflux-events replay mainflux.things test.things --since 1h
      mainflux-events replay mainflux.things mainflux.things --to-redis redis://other:6379/0
      mainflux-events replay orders again --since 1526919030474-55 --until 2026-01-01T00:00Z
    """
    return run(
        _replay(
            source, target, redis, to_redis, since, until, name,
            again=again, keep_ids=keep_ids, max_len=max_len, as_json=json,
        )
    )  # fmt: skip


async def _replay(
    stream: str,
    to_stream: str,
    url: str,
    to_url: str,
    since: When,
    until: When,
    name: str,
    *,
    again: bool,
    keep_ids: bool,
    max_len: int,
    as_json: bool,
) -> int:
    link = link_of(url, "--redis")
    name = name or derived_name(link.where, stream, str(since), str(until))
    key = position_key("replay", name, to_stream)
    steps = Steps(to_stream, key, "", kept=KEPT, max_len=max_len or None, keep_ids=keep_ids)
    source = Source(link, stream, None)
    target = Target(link_of(to_url, "--to-redis") if to_url else link, steps)
    missing = Missing()
    async with open_sides(source, target):
        await refuse_itself(source, target)
        stored = await target.stored()
        if stored is None or again:
            await _begin(source, target, steps, since, until, anew=again)
        else:
            source.end, steps.what = stored.what.partition(" ")[0], stored.what
            if what_of(source) != stored.what:
                raise ConfigError(f"--name: {name!r} was the replay of another stream; give another name")
            await target.begin(stored.id)
            source.resume(target.position.id)
        before = target.position
        with Bar(f"replay {stream}", bounded=True) as bar:
            await transfer(source, target, _shown(bar, source, before), missing)
    done = f"replayed {stream!r} into {to_stream!r}"
    report(done, target.position, before.count, as_json=as_json, missing=missing)
    return PARTLY if missing.told else DONE


async def _begin(
    source: Source, target: Target, steps: Steps, since: When, until: When, *, anew: bool
) -> None:
    extent = await source.extent()
    if extent.last == (0, 0):
        raise EventsError(f"{source.where}: there is no stream {source.key!r}")
    now = datetime.now(UTC)
    source.end = resolve_end(until, extent.last_id, now)
    steps.what = what_of(source)
    begins = resolve_start(since, extent.last_id, now)
    await target.begin(begins, anew=anew)
    source.begin(target.position.id, extent)


def _shown(bar: Bar, source: Source, before: Position) -> Shown:
    assert source.end is not None
    first, last = before.id, source.end

    def show(read: Read, position: Position) -> None:
        bar.show(position.count, share_of(position.id, first, last))

    return show


def what_of(source: Source) -> str:
    """Of what the target is the copy, as it is stored and compared."""
    return f"{source.end} {source.where} {source.key}"
