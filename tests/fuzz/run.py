"""Fuzz what reads strangers' bytes, guided by coverage (atheris): ``run.py [--seconds N] [target...]``.

Every target gets its share of the time, in a process of its own, beginning from ``corpus/<target>``. What it finds is left in
``found/<target>-*``: put it into the corpus, which `tests/unit/test_fuzz_corpus.py` tries without atheris, and mend what it shows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.name for path in (HERE / "corpus").iterdir())
LONGEST_INPUT = 4096
SECONDS_PER_INPUT = 5
MEBIBYTES = 1024


def main() -> int:
    """Run the targets one after the other; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=80, help="for all targets together")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(NAMES))
    options = parser.parse_args()
    targets = options.targets or NAMES
    if unknown := sorted(set(targets) - set(NAMES)):
        parser.error(f"no target `{unknown[0]}`; there are {', '.join(NAMES)}")
    seconds = max(1, options.seconds // len(targets))
    if options.inside:
        return fuzz(targets[0], seconds)
    failed = [name for name in targets if run(name, seconds)]
    return int(bool(failed))


def run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own, and say whether it failed."""
    # The fuzzer ends its process without unwinding: what it puts into the temporary directory is ours to remove.
    with tempfile.TemporaryDirectory(prefix="img-fuzz-") as directory:
        done = subprocess.run(
            [sys.executable, __file__, "--inside", "--seconds", str(seconds), name],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": directory},
        )
    lines = (done.stdout + done.stderr).splitlines()
    print(f"{name}: {next((line for line in reversed(lines) if line.startswith('Done ')), 'failed')}", flush=True)
    if done.returncode:
        print(done.stdout, *done.stderr.splitlines()[-12:], sep="\n", flush=True)
    return done.returncode != 0


def fuzz(name: str, seconds: int) -> int:
    """Be that process."""
    import atheris

    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["img_core", "img_frontend_dockerfile", "img_source_git"]):
        from fuzz.targets import TARGETS
    found = Path("found")
    found.mkdir(exist_ok=True)
    flags = {
        "max_total_time": seconds,
        "max_len": LONGEST_INPUT,
        "timeout": SECONDS_PER_INPUT,
        "rss_limit_mb": MEBIBYTES,
        "artifact_prefix": f"{found}/{name}-",
        # Continuous integration tries the same inputs each time, as Hypothesis does there; 0 means other ones each time.
        "seed": 1 if os.environ.get("CI") else 0,
    }
    arguments = [f"-{flag}={value}" for flag, value in flags.items()]
    new = tempfile.mkdtemp(prefix="corpus-")
    atheris.Setup([sys.argv[0], *arguments, new, str(HERE / "corpus" / name)], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
