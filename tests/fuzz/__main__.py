"""Looks for inputs that break a target, guided by what they reach: `nox -s fuzz -- --seconds N`.

Each target has its share of the time, and begins with what is kept of it. An input that breaks one is written beside
the project, with the command that runs it again; put it into the corpus once it is mended.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
# Bytes. What is longer in the corpus is there for its length, which takes a fuzzer's time and teaches it nothing.
LONGEST = 4096
# A reply that announces millions of others: the list of them takes address space and the garbage collector's time,
# seconds of it, though no memory. That is known, and hides the rest.
HUGE = re.compile(rb"[*~>%]\d{7}")


def look(target: str, arguments: list[str]) -> None:
    """Run one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["mainflux_events"]):
        from fuzz.targets import TARGETS

    def try_out(data: bytes) -> None:
        if not HUGE.search(data):
            TARGETS[target](data)

    atheris.Setup([sys.argv[0], *arguments], try_out)
    atheris.Fuzz()


def main() -> int:
    names = sorted(path.name for path in CORPUS.iterdir())
    parser = argparse.ArgumentParser(prog="nox -s fuzz --", description=__doc__)
    parser.add_argument(
        "--seconds", type=int, default=60, help="for all targets together (default: %(default)s)"
    )
    parser.add_argument("--target", choices=names, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    targets = options.target or names
    seconds = max(1, options.seconds // len(targets))
    for target in targets:
        print(f"{target}: {seconds} s", flush=True)
        with tempfile.TemporaryDirectory() as found:
            corpora = [found, str(CORPUS / target)]  # what is found goes into the first
            limits = [
                f"-max_total_time={seconds}",
                f"-max_len={LONGEST}",
                "-timeout=10",
                "-rss_limit_mb=2048",
            ]
            artifacts = f"-artifact_prefix=fuzz-{target}-"
            command = [sys.executable, "-m", "fuzz", "look", target, *limits, artifacts, *corpora]
            status = subprocess.run(command, check=False).returncode
        if status:
            print(f"{target} is broken. Again: PYTHONPATH=tests python -m fuzz look {target} fuzz-{target}-…")
            return status
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["look"]:
        look(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
