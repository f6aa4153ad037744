"""The options of `doctor`, and how it says what it has found."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from ...errors import EventsError
from ..options import DEFAULT_REDIS, PLATFORM, Json, Redis, Streams
from ..output import make_console, print_json, shown
from ..running import run
from ..server import Server
from ..statuses import DONE, FAILED, PARTLY
from .findings import Finding, Grade, fail, unknown
from .looking import ask_readers, ask_server, ask_stream, try_rights
from .server_checks import (
    check_clock,
    check_cluster,
    check_connection,
    check_eviction,
    check_memory,
    check_persistence,
    check_role,
    check_version,
)
from .stream_checks import Trial, check_reader, check_rights, check_stream


def doctor(
    stream: Streams = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="Look at this subscriber, instead of all that have a cursor."
        ),
    ] = "",
    redis: Redis = DEFAULT_REDIS,
    json: Json = False,
) -> int:
    """Look at a server, its streams and who reads them, and say what is wrong and what to do about it.

    It changes nothing, needs no right to be useful, and says what it could not look at. The rights are those of the
    user of the URL: with that of a service, it tells whether that service can work.

    Exit status: 0 if nothing has failed, warnings or not; 1 if the server cannot be asked; 3 if something has failed.

    \b
    Examples:
      mainflux-events doctor
      mainflux-events doctor --stream orders --name billing --redis redis://billing:secret@localhost:6379/0
      mainflux-events doctor --json | jq 'select(.grade == "FAIL")'
    """
    return run(_doctor(redis, stream or list(PLATFORM), name, json))


async def _doctor(url: str, streams: list[str], name: str, as_json: bool) -> int:
    server = Server(url)
    try:
        findings = await _examine(server, streams, name)
        status = PARTLY if any(each.grade is Grade.FAIL for each in findings) else DONE
    except EventsError as error:
        advice = "see that the address, the user and the password are right, and that the server runs"
        findings, status = [fail("connection", str(error), advice)], FAILED
    finally:
        await server.aclose()
    if as_json:
        for each in findings:
            print_json(
                {"check": each.check, "grade": each.grade.value, "found": each.found, "advice": each.advice}
            )
    else:
        _print(make_console(), findings)
    return status


async def _examine(server: Server, streams: list[str], name: str) -> list[Finding]:
    facts = await ask_server(server)
    info, config = facts.info, facts.config
    findings = [
        check_connection(server.where, facts.seconds),
        check_version(info),
        check_role(info, config),
        check_cluster(info, facts.cluster_state),
        check_persistence(info, config),
        check_memory(info),
        check_eviction(info),
        check_clock(facts.ahead),
    ]
    trials: list[tuple[str, Trial]] = []
    for stream in streams:
        extent, kind = await ask_stream(server, stream)
        findings.append(about := check_stream(stream, extent, kind, facts.now_ms))
        if about.grade is Grade.FAIL:
            continue
        trials += [(stream, trial) for trial in await try_rights(server, stream, name)]
        readers = await ask_readers(server, stream, name)
        if isinstance(readers, str):
            findings.append(unknown(f"who reads {stream}", readers))
        elif extent is not None:
            findings += [check_reader(reader, extent) for reader in readers]
    return findings + check_rights(trials)


_STYLES = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "bold red", Grade.UNKNOWN: "dim"}


def _print(console: Console, findings: list[Finding]) -> None:
    """The findings, and below each that is not well what to do."""
    for each in findings:
        console.print(f"{each.grade.value:8}", style=_STYLES[each.grade], end="")
        console.print(shown(f"{each.check}: {each.found}"), markup=False, soft_wrap=True)
        if each.advice:
            console.print(f"{'':8}{shown(each.advice)}", markup=False, soft_wrap=True)
    counts = {grade: sum(each.grade is grade for each in findings) for grade in Grade}
    console.print(", ".join(f"{count} {grade.value}" for grade, count in counts.items() if count))
