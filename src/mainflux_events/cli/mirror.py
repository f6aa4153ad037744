"""`mirror`: what comes into a stream, appended to another one, for as long as it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Annotated

import typer

from ..cursor import resolve_start
from ..errors import ConfigError
from .copying.options import FromStream, KeepIds, MaxLen, Name, Since, TargetRedis
from .copying.position import Position, Steps, position_key
from .copying.progress import Bar, Missing, entries, report
from .copying.source import Read, Source
from .copying.target import Target
from .copying.transfer import link_of, open_sides, refuse_itself, transfer
from .options import DEFAULT_REDIS, Json, Redis, When
from .output import note, print_json, show_seconds
from .running import run
from .statuses import DONE

# Seconds between two lines, where there is no terminal.
LINE = 60.0


def mirror(
    source: FromStream,
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="The stream to append to; without, of the same name.")
    ] = "",
    redis: Redis = DEFAULT_REDIS,
    to_redis: TargetRedis = "",
    since: Since = "earliest",
    name: Name = "",
    source_moved: Annotated[
        bool,
        typer.Option(
            "--source-moved", help="The source has another address than it had, and is the same stream."
        ),
    ] = False,
    keep_ids: KeepIds = False,
    max_len: MaxLen = 0,
    json: Json = False,
) -> int:
    """Copy a stream into another one, byte for byte, and go on with what comes, until interrupted.

    Each entry is appended once, through outages of both servers and however often this is killed: how far it is, is
    stored beside the target, in the same step. --since counts where nothing is stored yet. Without --name, the position
    has the name of the source.

    \b
    Examples:
      mainflux-events mirror mainflux.things --to-redis redis://other:6379/0
      mainflux-events mirror mainflux.things mainflux.things --to-redis redis://new:6379/0 --keep-ids
      mainflux-events mirror mainflux.things audit.things --since new
    """
    return run(
        _mirror(
            source, target or source, redis, to_redis, since, name,
            moved=source_moved, keep_ids=keep_ids, max_len=max_len, as_json=json,
        )
    )  # fmt: skip


async def _mirror(
    stream: str,
    to_stream: str,
    url: str,
    to_url: str,
    since: When,
    name: str,
    *,
    moved: bool,
    keep_ids: bool,
    max_len: int,
    as_json: bool,
) -> int:
    link = link_of(url, "--redis")
    key = position_key("mirror", name or _name_of(stream), to_stream)
    what = f"{link.where} {stream}"
    steps = Steps(to_stream, key, what, kept=None, max_len=max_len or None, keep_ids=keep_ids)
    source = Source(link, stream, None)
    target = Target(link_of(to_url, "--to-redis") if to_url else link, steps)
    missing = Missing()
    async with open_sides(source, target):
        await refuse_itself(source, target)
        stored = await target.stored()
        if stored is not None and stored.what != what and not moved:
            raise ConfigError(
                f"--name: {key!r} is the position of a mirror of {stored.what}; give another name, or say "
                "--source-moved, if that is the same stream at another address"
            )
        extent = await source.extent()
        await target.begin(resolve_start(since, extent.last_id, datetime.now(UTC)))
        if stored is None:
            source.begin(target.position.id, extent)
        else:
            source.resume(target.position.id)
        before = target.position.count
        done = f"mirrored {stream!r} into {to_stream!r}"
        note(f"mirroring {stream!r} into {to_stream!r}, behind {target.position.id}")
        source.persistent = target.persistent = True
        try:
            with Bar(f"mirror {stream}", bounded=False) as bar:
                await transfer(source, target, Show(bar, as_json=as_json), missing)
        finally:
            report(done, target.position, before, as_json=as_json, missing=missing)
    return DONE


class Show:
    """Shows how far a mirror is: on the bar; elsewhere when it has caught up, and once a minute."""

    def __init__(self, bar: Bar, *, as_json: bool) -> None:
        self._bar = bar
        self._as_json = as_json
        self._due = monotonic() + LINE
        self._caught_up = False

    def __call__(self, read: Read, position: Position) -> None:
        self._bar.show(position.count, more=f", {show_seconds(read.behind)} behind")
        reached = not read.behind and not self._caught_up
        if not reached and (monotonic() < self._due or self._bar.live):
            return
        self._due = monotonic() + LINE
        self._caught_up = self._caught_up or reached
        if self._as_json:
            print_json({"total": position.count, "last": position.id, "behind": read.behind})
        elif not self._bar.live:
            state = "caught up" if not read.behind else f"{show_seconds(read.behind)} behind"
            note(f"{state}: {entries(position.count)}, up to {position.id}")


def _name_of(stream: str) -> str:
    """The name of a stream without what a name may not have."""
    return "".join("-" if mark in ":{} " else mark for mark in stream)
