"""`load`: lines of JSON appended to a stream, once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from ..link import Link
from .copying.intake import Intake
from .copying.lines import Entry
from .copying.options import Again, KeepIds, MaxLen, Name
from .copying.position import KEPT, Steps, derived_name, position_key
from .copying.progress import Bar, report
from .copying.source import MOST_ENTRIES
from .copying.target import Target
from .copying.transfer import link_of
from .options import DEFAULT_REDIS, Json, Redis
from .output import note
from .running import run
from .statuses import DONE

_STDIN = "-"


def load(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream to append to.")],
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="What dump has written; - or without: stdin.")
    ] = _STDIN,
    redis: Redis = DEFAULT_REDIS,
    name: Name = "",
    again: Again = False,
    keep_ids: KeepIds = False,
    max_len: MaxLen = 0,
    json: Json = False,
) -> int:
    """Append what `dump` has written to a stream, byte for byte, once.

    Each entry is appended once, however often it is interrupted: how far it is, is stored beside the stream, in the
    same step. The same lines go on there, and those that were loaded are passed over, which is remembered for a week.
    Without --name, a file is known by its first entry: where it has grown, what is new is loaded.

    \b
    Examples:
      mainflux-events load test.things things.jsonl
      zcat day.jsonl.gz | mainflux-events load mainflux.things --keep-ids
    """
    loading = Loading(link_of(redis, "--redis"), stream, name, anew=again, keep_ids=keep_ids, max_len=max_len)
    with _opened(file) as opened:
        size = Path(file).stat().st_size if file != _STDIN else 0
        run(_load(loading, Intake(opened), size))
    target = loading.target
    if target is None:
        note("there was nothing to load")
    else:
        report(f"loaded into {stream!r}", target.position, loading.before, as_json=json)
    return DONE


async def _load(loading: Loading, intake: Intake, size: int) -> None:
    try:
        with Bar(f"load {loading.stream}", bounded=bool(size)) as bar:
            async for entries in intake.batches():
                while entries:
                    await loading.take(entries[:MOST_ENTRIES])
                    del entries[:MOST_ENTRIES]
                    bar.show(loading.count, intake.read / size if size else None)
    finally:
        await loading.aclose()


class Loading:
    """Appends the entries that come, behind those that were appended before.

    Args:
        link: where to.
        stream: the key of the stream.
        name: of the position; where it is empty, it follows from the first entry.
        anew: whether what was appended before counts.
        keep_ids, max_len: as of `Steps`; 0 keeps all.

    Attributes:
        target: from the first entry on.
        before: how many entries were appended before.
        count: how many entries have come.
    """

    def __init__(
        self, link: Link, stream: str, name: str, *, anew: bool, keep_ids: bool, max_len: int
    ) -> None:
        self.stream: str = stream
        self.target: Target | None = None
        self.before: int = 0
        self.count: int = 0
        self._link = link
        self._name = name
        self._anew = anew
        self._keep_ids = keep_ids
        self._max_len = max_len or None
        self._last = ""

    async def take(self, entries: list[Entry]) -> None:
        """The next entries.

        Raises:
            ConfigError: what was appended before are other entries.
        """
        target = self.target or await self._begin(entries[0])
        passed = max(0, min(self.before - self.count, len(entries)))
        self.count += len(entries)
        if passed and self.count >= self.before and entries[passed - 1].id != self._last:
            raise ConfigError(
                f"entry {self.before} is not the one that was loaded last, {self._last}: these are other lines than "
                "those that were begun with; give another --name, or --again"
            )
        await target.append(entries[passed:])

    async def _begin(self, first: Entry) -> Target:
        name = self._name or derived_name(first.stream, first.id, *map(repr, first.fields))
        what = f"{first.id} {first.stream}"
        key = position_key("load", name, self.stream)
        steps = Steps(self.stream, key, what, kept=KEPT, max_len=self._max_len, keep_ids=self._keep_ids)
        self.target = target = Target(self._link, steps)
        await target.stored()
        await target.begin("0-0", anew=self._anew)
        if target.position.what != what:
            raise ConfigError(
                f"--name: {self._name!r} was the load of other lines; give another name, or --again"
            )
        self.before, self._last = target.position.count, target.position.id
        return target

    async def aclose(self) -> None:
        """End the connection."""
        if self.target is not None:
            await self.target.aclose()


def _opened(path: str) -> io.FileIO:
    try:
        return io.FileIO(path) if path != _STDIN else io.FileIO(sys.stdin.fileno(), closefd=False)
    except OSError as error:
        raise typer.BadParameter(f"{path!r} cannot be read: {error.strerror}", param_hint="FILE") from None
