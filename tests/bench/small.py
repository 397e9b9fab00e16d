"""Ten small layers over TLS, pushed and pulled: nothing to carry, so it is connections, requests and start-up that count."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

from measure import Figure, alternate, run

from img_core.testing.images import make_image, write_layout
from img_core.testing.registry import Authority, DockerRegistry

__all__ = ["small_transfers"]

_LAYERS = 10


def small_transfers(work: Path, img: list[str], environment: dict[str, str], rounds: int) -> dict[str, list[Figure]]:
    """Measure img and skopeo, the latter where it is installed, each push into a repository and each pull into a state of its own."""
    authority = Authority(work / "authority")
    trusting = {**environment, "SSL_CERT_FILE": str(authority.certificate)}
    certificates = work / "certificates"
    certificates.mkdir()
    shutil.copy(authority.certificate, certificates / "ca.crt")
    write_layout(work / "layout", {"1": make_image([{f"f{number}": os.urandom(200)} for number in range(_LAYERS)])})
    run(["tar", "-C", str(work / "layout"), "-cf", str(work / "layout.tar"), "."])
    numbers = count()
    layout = f"oci:{work / 'layout'}:1"
    with DockerRegistry(work / "registry", authority=authority) as registry:
        state = ["-s", str(work / "state")]
        run([*img, *state, "load", "-i", str(work / "layout.tar")], env=trusting)
        identity = run_output([*img, *state, "ls", "-q"], trusting).split()[0]
        source = f"{registry.address}/small:1"
        run([*img, *state, "push", identity, source], env=trusting)

        def push() -> float:
            # From a copy of the state in which nobody knows of any repository: else they would be mounted.
            fresh = work / f"state{next(numbers)}"
            shutil.copytree(work / "state", fresh)
            remove_origins(fresh)
            return run(
                [*img, "-s", str(fresh), "push", identity, f"{registry.address}/i{next(numbers)}:1"], env=trusting
            )

        def pull() -> float:
            return run([*img, "-s", str(work / f"pulled{next(numbers)}"), "pull", source], env=trusting)

        pushes: dict[str, Callable[[], float]] = {"img push": push}
        pulls: dict[str, Callable[[], float]] = {"img pull": pull}
        if shutil.which("skopeo"):
            copy = ["skopeo", "copy", "-q"]
            to, of = ["--dest-cert-dir", str(certificates)], ["--src-cert-dir", str(certificates)]
            pushes["skopeo copy"] = lambda: run(
                [*copy, *to, layout, f"docker://{registry.address}/s{next(numbers)}:1"], env=trusting
            )
            pulls["skopeo copy"] = lambda: run(
                [*copy, *of, f"docker://{source}", f"oci:{work / f'copied{next(numbers)}'}:1"], env=trusting
            )
        return {
            f"push of {_LAYERS} layers of 200 bytes, TLS": alternate(rounds, pushes),
            f"pull of {_LAYERS} layers of 200 bytes, TLS": alternate(rounds, pulls),
        }


def run_output(command: list[str], environment: dict[str, str]) -> str:
    """Return what *command* prints."""
    import subprocess

    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def remove_origins(state: Path) -> None:
    """Let the state directory *state* not know which repositories have its blobs."""
    import sqlite3

    with sqlite3.connect(state / "img.db") as database:
        database.execute("DELETE FROM blob_origin")
