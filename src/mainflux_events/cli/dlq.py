"""`dlq`: dead letters listed, shown, sent on and thrown away."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from ..deadletters import DeadLetter
from ..errors import EventsError
from ..letterbox import drop_dead_letters, read_dead_letters
from ..redriving import redrive as redrive_letters
from .copying.lines import plain_fields
from .copying.transfer import link_of
from .letters import (
    Consumer,
    ErrorText,
    Filters,
    Ids,
    Letters,
    Operation,
    SinceTime,
    Source,
    UntilTime,
    filters_of,
)
from .options import DEFAULT_REDIS, DryRun, Json, Redis, Yes
from .output import confirm, make_console, note, print_json, print_table, show_count, shown
from .running import run
from .statuses import DONE, FAILED, PARTLY

dlq: typer.Typer = typer.Typer(
    help="Dead letters: list, show, redrive, drop.", rich_markup_mode=None, no_args_is_help=True
)


@dlq.command("list")
def list_(
    stream: Letters,
    redis: Redis = DEFAULT_REDIS,
    id: Ids = None,
    operation: Operation = "",
    source: Source = "",
    error: ErrorText = "",
    consumer: Consumer = "",
    since: SinceTime = None,
    until: UntilTime = None,
    json: Json = False,
) -> int:
    """List dead letters, the oldest first: where each is from, and what was wrong.

    \b
    Examples:
      mainflux-events dlq list things:dead
      mainflux-events dlq list things:dead --consumer billing --since 1h --json
    """
    link_of(redis, "--redis")
    return run(_list(redis, stream, filters_of(id, operation, source, error, consumer, since, until), json))


async def _list(url: str, stream: str, filters: Filters, as_json: bool) -> int:
    rows = []
    async for letter in read_dead_letters(url, stream, ids=filters.ids, where=filters.matches):
        if as_json:
            print_json(about(letter))
        else:
            rows.append([*(_text(value) for value in list(about(letter).values())[:-2]), _short(letter)])
    if rows:
        print_table(make_console(), _COLUMNS, rows)
    elif not as_json:
        note("there are no dead letters, or none that are asked for")
    return DONE


_COLUMNS = ("id", "time", "stream", "entry", "operation", "consumer", ">attempts", "error")


@dlq.command()
def show(
    stream: Letters,
    id: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's own ID.")],
    redis: Redis = DEFAULT_REDIS,
    json: Json = False,
) -> int:
    """Show one dead letter, with all fields of its entry.

    \b
    Examples:
      mainflux-events dlq show things:dead 1526919030474-55
    """
    link_of(redis, "--redis")
    return run(_show(redis, stream, filters_of([id]), json))


async def _show(url: str, stream: str, filters: Filters, as_json: bool) -> int:
    async for letter in read_dead_letters(url, stream, ids=filters.ids):
        if as_json:
            print_json(about(letter) | {"fields": plain_fields(letter.raw)})
            return DONE
        for name, value in about(letter).items():
            print(f"{name}: {_text(value)}")
        print("fields:")
        for field, octets in letter.raw:
            print(f"  {shown(field)}: {shown(octets)}")
        return DONE
    raise EventsError(f"there is no such dead letter in {stream!r}")


@dlq.command()
def redrive(
    stream: Letters,
    redis: Redis = DEFAULT_REDIS,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="KEY", help="The stream to append to; without, that which each is from."
        ),
    ] = "",
    id: Ids = None,
    operation: Operation = "",
    source: Source = "",
    error: ErrorText = "",
    consumer: Consumer = "",
    since: SinceTime = None,
    until: UntilTime = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Send dead letters on, when what was wrong is mended: the entries as they were, in order, each once.

    Every subscriber of the stream sees them, under new IDs. Interrupted and called again, it goes on with the rest.

    Exit status: 0 if all are sent on; 3 if some stay, since they do not say where they are from.

    \b
    Examples:
      mainflux-events dlq redrive things:dead --dry-run
      mainflux-events dlq redrive things:dead --error TimeoutError --yes
      mainflux-events dlq redrive things:dead --id 1526919030474-55 --to test.things
    """
    link_of(redis, "--redis")
    filters = filters_of(id, operation, source, error, consumer, since, until)
    return run(_redrive(redis, stream, filters, to or None, dry_run=dry_run, yes=yes, as_json=json))


async def _redrive(
    url: str, stream: str, filters: Filters, to: str | None, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    where = "the streams that they are from" if to is None else repr(to)
    if (last := await _choose(url, stream, filters, dry_run=dry_run, as_json=as_json)) is None:
        return DONE
    if not await confirm(f"append them to {where}?", yes=yes):
        note("nothing was done")
        return FAILED
    seen = filters.up_to(last)
    done = await redrive_letters(url, stream, to=to, ids=seen.ids, where=seen.matches)
    if as_json:
        print_json({"redriven": done.redriven, "failed": done.failed})
    else:
        note(f"redriven: {_count(done.redriven)}" + (f"; {_count(done.failed)} stay" if done.failed else ""))
    return PARTLY if done.failed else DONE


@dlq.command()
def drop(
    stream: Letters,
    redis: Redis = DEFAULT_REDIS,
    id: Ids = None,
    operation: Operation = "",
    source: Source = "",
    error: ErrorText = "",
    consumer: Consumer = "",
    since: SinceTime = None,
    until: UntilTime = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Delete dead letters, for good.

    \b
    Examples:
      mainflux-events dlq drop things:dead --until 30d
      mainflux-events dlq drop things:dead --operation thing.remove --dry-run
    """
    link_of(redis, "--redis")
    filters = filters_of(id, operation, source, error, consumer, since, until)
    return run(_drop(redis, stream, filters, dry_run=dry_run, yes=yes, as_json=json))


async def _drop(url: str, stream: str, filters: Filters, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    if (last := await _choose(url, stream, filters, dry_run=dry_run, as_json=as_json)) is None:
        return DONE
    if not await confirm("delete them for good?", yes=yes):
        note("nothing was done")
        return FAILED
    seen = filters.up_to(last)
    dropped = await drop_dead_letters(url, stream, ids=seen.ids, where=seen.matches)
    if as_json:
        print_json({"dropped": dropped})
    else:
        note(f"dropped: {_count(dropped)}")
    return DONE


# --- what is asked for ---------------------------------------------------------------------------------------------


async def _choose(url: str, stream: str, filters: Filters, *, dry_run: bool, as_json: bool) -> str | None:
    """Say which dead letters it is about. Gives the ID of the last of them; None where nothing is to be done."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    last = None
    async for letter in read_dead_letters(url, stream, ids=filters.ids, where=filters.matches):
        kinds[letter.stream, letter.operation, letter.error_type] += 1
        last = letter.id
    if as_json and dry_run:
        for (source, operation, error), count in kinds.items():
            print_json({"stream": source, "operation": operation, "error_type": error, "count": count})
        return None
    note(f"{_count(kinds.total())} of {stream!r}")
    for (source, operation, error), count in kinds.most_common():
        note(f"  {show_count(count)} of {source or '(unknown)'}, {operation or '(no operation)'}: {error}")
    return None if dry_run else last


def about(letter: DeadLetter) -> dict[str, Any]:
    """What there is to say of a dead letter, but for its fields."""
    time = letter.time
    return {
        "id": letter.id,
        "time": None if time is None else time.isoformat().replace("+00:00", "Z"),
        "stream": letter.stream,
        "entry": letter.source_id,
        "operation": letter.operation,
        "consumer": letter.consumer,
        "attempts": letter.attempts,
        "error_type": letter.error_type,
        "error": letter.error,
    }


def _text(value: object) -> str:
    return "-" if value is None or value == "" else shown(str(value))


def _short(letter: DeadLetter) -> str:
    """The error in so many characters as a table has room for."""
    error = f"{letter.error_type.rpartition('.')[2]}: {letter.error}"
    return error if len(error) <= 60 else f"{error[:59]}…"


def _count(letters: int) -> str:
    return "1 dead letter" if letters == 1 else f"{show_count(letters)} dead letters"
