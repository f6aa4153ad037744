"""The command line as a whole: its statuses, and one line for what is wrong."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mainflux_events
from mainflux_events.cli.app import run
from mainflux_events.testing import RedisServer, redis_server

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "PY_COLORS")}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mainflux_events", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT | environment,
    )


def one_line(text: str) -> str:
    """The text, which has to be one line, and no traceback."""
    assert text.count("\n") == 1, text
    assert text.startswith("mainflux-events: ")
    return text


def test_the_version_is_that_of_the_package() -> None:
    shown = command("--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (
        0,
        f"mainflux-events {mainflux_events.__version__}\n",
        "",
    )


def test_the_script_of_the_package_is_the_same_command() -> None:
    scripts = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]
    program = "import pkgutil, sys; sys.exit(pkgutil.resolve_name(sys.argv.pop(1))())"
    shown = subprocess.run(
        [sys.executable, "-c", program, scripts["mainflux-events"], "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert shown.stdout == f"mainflux-events {mainflux_events.__version__}\n"


def test_without_a_command_it_lists_them_and_fails() -> None:
    shown = command()
    assert shown.returncode == 2
    assert "demo" in shown.stdout


def test_help_shows_an_example() -> None:
    shown = command("demo", "--help")
    assert shown.returncode == 0
    assert "\n    mainflux-events demo --redis-url redis://localhost:6379/0\n" in shown.stdout
    assert "\x1b" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("nonsense",), "nonsense"),
        (("demo", "--nonsense"), "--nonsense"),
        (("demo", "--events", "0"), "--events"),
        (("demo", "--events", "many"), "--events"),
        (("demo", "--rate", "-1"), "--rate"),
        (("demo", "--redis-url", "http://user:geheim@localhost"), "must begin with redis://"),
        (("demo", "--redis-url", "redis://user:geheim@localhost:port"), "cannot be parsed"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line_that_says_what(arguments: tuple[str, ...], what: str) -> None:
    shown = command(*arguments)
    assert shown.returncode == 2
    assert what in one_line(shown.stderr)
    assert "geheim" not in shown.stderr
    assert shown.stdout == ""


def test_a_server_that_is_not_there_is_status_1_and_one_line() -> None:
    shown = command("demo", "--redis-url", "redis://user:geheim@127.0.0.1:1/0")
    assert shown.returncode == 1
    assert "127.0.0.1:1" in one_line(shown.stderr)
    assert "geheim" not in shown.stderr


async def test_a_wrong_password_is_status_1_and_one_line_without_it() -> None:
    async with redis_server(tcp=True, password="right") as server:
        shown = command("demo", "--redis-url", server.url.replace("right", "geheim"))
    assert shown.returncode == 1
    assert "password" in one_line(shown.stderr)
    assert "geheim" not in shown.stderr


async def test_missing_rights_are_status_1_and_one_line_that_says_which() -> None:
    async with redis_server(tcp=True) as server:
        await server.command("ACL", "SETUSER", "reader", "on", ">geheim", "~*", "+@all", "-xadd")
        shown = command("demo", "--redis-url", f"redis://reader:geheim@127.0.0.1:{server.port}/0")
    assert shown.returncode == 1
    assert "XADD" in one_line(shown.stderr)
    assert "geheim" not in shown.stderr


def test_a_server_program_that_is_not_there_is_status_1_and_one_line() -> None:
    shown = command("demo", MAINFLUX_EVENTS_REDIS_SERVER="/nowhere/redis-server")
    assert shown.returncode == 1
    assert "--redis-url" in one_line(shown.stderr)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_how_to_get_it(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from mainflux_events.cli import main; sys.exit(main())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert shown.returncode == 1
    assert f"{missing} is not installed" in one_line(shown.stderr)
    assert 'pip install "mainflux-events[cli]"' in shown.stderr


def test_an_error_of_our_own_is_not_taken_for_a_missing_extra() -> None:
    program = (
        "import sys; from mainflux_events.cli import main; "
        "sys.modules['mainflux_events.cli.running'] = None; main()"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert "ModuleNotFoundError" in shown.stderr
    assert "[cli]" not in shown.stderr


def test_to_import_it_is_not_to_run_it() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import mainflux_events.__main__; print('imported')"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "imported\n", "")


def test_what_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("mainflux_events.cli.demo.command.make_console", broken)
    with pytest.raises(ZeroDivisionError, match="unforeseen"):
        run(["demo"])


def test_an_output_that_is_no_file_is_written_to_all_the_same() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert run(["--version"]) == 0
    assert shown.getvalue() == f"mainflux-events {mainflux_events.__version__}\n"


def test_an_output_that_is_closed_ends_it_without_a_traceback(server: RedisServer) -> None:
    script = (
        f'"{sys.executable}" -m mainflux_events demo --events 2000 --redis-url "{server.url}" | head -n 1'
    )
    shown = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30, env=ENVIRONMENT
    )
    assert shown.stdout.startswith("publishing 2,000 events")
    assert "Traceback" not in shown.stderr
