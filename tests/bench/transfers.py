"""Pull, unpack and push against buildah, skopeo and umoci, with Debian's ``docker-registry`` on loopback, and listing many images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from measure import Command, alternate, clean_environment, program, remove, run
from report import Report
from small import small_transfers

from img_core.testing.images import SmallImage, make_image, write_layout
from img_core.testing.registry import DockerRegistry

__all__ = ["TransferBench"]

_MIB = 1 << 20
_LARGE = 512 * _MIB
_IMAGES = 1000
_STEPS = 50


class TransferBench:
    """The candidates and what they move, in the directory *work*."""

    def __init__(self, work: Path, rounds: int, report: Report) -> None:
        self._report = report
        self._work = work
        self._rounds = rounds
        self._exit = ExitStack()
        self._registry = self._exit.enter_context(DockerRegistry(work / "registry"))
        self._img = program()
        self._environment = _environment(work)
        self._large: str | None = None
        self._source = ""

    def __enter__(self) -> TransferBench:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    # ------------------------------------------------------------------------------------------------------- measured

    def cold_build(self) -> None:
        """A Debian base from the registry to files that can be used, with empty storage; and its layer without a builder."""
        if source := self._debian():
            candidates = {**self._pulls_into_storage(source), **self._pulls_into_nothing(source)}
            self._compare("FROM Debian, RUN true, empty storage", candidates)

    def pull_and_unpack(self) -> None:
        """A Debian base from the registry to a directory."""
        if source := self._debian():
            self._compare("pull and unpack of Debian into a directory", self._pulls_into_directory(source))

    def _debian(self) -> str:
        """Return the reference of a Debian base in the registry; empty if there is none."""
        root = Path(os.environ.get("IMG_TEST_FIXTURES", ""), "debian.tar")
        if not root.exists():
            print("(no Debian base: let IMG_TEST_FIXTURES name a directory made by `.ci/fixtures`)")
        elif not self._source:
            self._source = self._add_debian(root)
        return self._source

    def pull_large(self) -> None:
        """A layer of 512 MiB."""
        source = self._large_image()
        self._compare(
            "pull of a layer of 512 MiB",
            {
                "img pull": [[*self._img, "-s", self._path("state"), "pull", source]],
                "skopeo copy to oci:": [[*_skopeo_from(source), f"oci:{self._path('layout')}:1"]],
            },
        )

    def push_large(self) -> None:
        """A layer of 512 MiB into a repository that does not have it."""
        source, kept = self._large_image(), self._work / "kept"
        run([*self._img, "-s", str(kept / "state"), "pull", source], env=self._environment)
        run([*_skopeo_from(source), f"oci:{kept}/layout:1"], env=self._environment)
        counter = iter(range(10_000))

        def img() -> float:
            # Neither a mount from a neighbour nor a copy that is there already: another registry each time.
            with DockerRegistry(self._work / f"target{next(counter)}") as target:
                return self._time([[*self._img, "-s", str(kept / "state"), "push", source, f"{target.address}/l:1"]])

        def skopeo() -> float:
            with DockerRegistry(self._work / f"target{next(counter)}") as target:
                copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{kept}/layout:1"]
                return self._time([[*copy, f"docker://{target.address}/l:1"]])

        candidates: dict[str, Callable[[], float]] = {"img push": img, "skopeo copy": skopeo}
        self._report.add("push of a layer of 512 MiB", alternate(self._rounds, candidates))
        remove(kept)

    def shared_cache(self) -> None:
        """A build of 50 steps in an empty state, all of it in a cache in the registry; buildah's is ``--cache-from REPOSITORY``."""
        base = self._push_layout("base", make_image([{"etc/motd": b"hello"}]))
        context = self._work / "steps"
        context.mkdir()
        (context / "f").write_text("x")
        lines = [f"FROM {base}", *(f"COPY f /f{number}" for number in range(_STEPS))]
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        ours, theirs = f"{self._registry.address}/ours:cache", f"{self._registry.address}/theirs"
        img = [*self._img, "-s", self._path("state"), "build", "-t", "out", "--no-console"]
        buildah = ["buildah", "--root", self._path("graph"), "--runroot", self._path("run"), "bud", "--layers"]
        buildah += ["--tls-verify=false", "--isolation", "chroot", "-t", "out"]
        self._time_cold([[*img, "--cache-to", f"type=registry,ref={ours},mode=max", str(context)]])
        candidates = {"img": [[*img, "--cache-from", ours, str(context)]]}
        if shutil.which("buildah"):
            self._time_cold([[*buildah, "--cache-to", theirs, str(context)]])
            candidates["buildah"] = [[*buildah, "--cache-from", theirs, str(context)]]
        self._compare(f"build of {_STEPS} steps in an empty state from a cache in a registry", candidates)

    def list_many(self) -> None:
        """``img ls`` with a thousand images; the budget is 150 ms."""
        from img_core.images import oci
        from img_core.store import Store

        state = self._work / "many"
        with Store(str(state)) as store:
            for number in range(_IMAGES):
                image = make_image([{"f": b"%d" % number}])
                for digest, content in sorted(image.blobs.items(), key=lambda item: item[0] == image.top.digest):
                    store.put(content, oci.OCI_MANIFEST if digest == image.top.digest else "x")
                store.images.tag(f"docker.io/library/app:{number:04}", image.top)
        command = [*self._img, "-s", str(state), "ls"]
        run(command, env=self._environment)
        candidates = {"img ls": partial(run, command, env=self._environment)}
        self._report.add(f"listing {_IMAGES} images", alternate(self._rounds * 3, candidates))

    def small(self) -> None:
        """Ten small layers over TLS."""
        work = self._work / "small"
        work.mkdir()
        for title, figures in small_transfers(work, self._img, self._environment, self._rounds * 3).items():
            self._report.add(title, figures)

    def beside_a_writer(self) -> None:
        """The same build from an empty storage right after another program wrote 1 GiB, none of which is ours to wait for."""
        if source := self._debian():
            title = "FROM Debian, RUN true, empty storage, right after a writer of 1 GiB"
            self._compare(title, self._pulls_into_storage(source), written=1 << 10)

    # ---------------------------------------------------------------------------------------------------------- parts

    def _pulls_into_storage(self, source: str) -> dict[str, list[Command]]:
        context = self._work / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM {source}\nRUN true\n")
        build = ["build", "-t", "out", "--no-console", str(context)]
        buildah = ["buildah", "--root", self._path("graph"), "--runroot", self._path("run")]
        return {
            "img build (FROM, RUN true)": [[*self._img, "-s", self._path("state"), *build]],
            "buildah from": [[*buildah, "from", "--tls-verify=false", source]],
        }

    def _pulls_into_nothing(self, source: str) -> dict[str, list[Command]]:
        """The least that can be done with the layer of *source*, without any check of its content."""
        files = self._path("files")
        repository = source.removeprefix(f"{self._registry.address}/").rpartition(":")[0]
        address = f"http://{self._registry.address}/v2/{repository}/blobs/{self._layer_of(source)}"
        least = (
            f"mkdir {files} && curl -sS {address} | gzip -dc | tar x -C {files} --exclude=./dev"  # nodes are not for us
        )
        return {"curl | gzip -dc | tar x": [["sh", "-ec", least]]}

    def _layer_of(self, source: str) -> str:
        """Return the digest of the only layer of *source*."""
        text = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{source}"],
            env=self._environment,
            check=True,
            capture_output=True,
        ).stdout
        return str(json.loads(text)["layers"][0]["digest"])

    def _pulls_into_directory(self, source: str) -> dict[str, list[Command]]:
        img = [*self._img, "-s", self._path("state")]
        layout, bundle = self._path("layout"), self._path("bundle")
        return {
            "img pull, img unpack": [[*img, "pull", source], [*img, "unpack", "-o", self._path("rootfs"), source]],
            "skopeo copy, umoci unpack": [
                [*_skopeo_from(source), f"oci:{layout}:1"],
                ["umoci", "unpack", "--rootless", "--image", f"{layout}:1", bundle],
            ],
        }

    def _compare(self, title: str, candidates: dict[str, list[Command]], *, written: int = 0) -> None:
        missing = [
            name for name, commands in candidates.items() for command in commands if not shutil.which(command[0])
        ]
        timed: dict[str, Callable[[], float]] = {
            name: partial(self._time_cold, commands, written)
            for name, commands in candidates.items()
            if name not in missing
        }
        self._report.add(title, alternate(self._rounds, timed))

    def _time_cold(self, commands: list[Command], written: int = 0) -> float:
        """Time *commands* on empty storage, right after somebody else wrote *written* MiB."""
        remove(self._work / "cold")
        (self._work / "cold").mkdir()
        os.sync()  # what came before must not be paid for here
        if written:
            others = [
                "dd",
                "if=/dev/zero",
                f"of={self._work / 'of-others'}",
                "bs=1M",
                f"count={written}",
                "status=none",
            ]
            subprocess.run(others, check=True)
        return self._time(commands)

    def _time(self, commands: list[Command]) -> float:
        return sum(run(command, env=self._environment) for command in commands)

    def _path(self, name: str) -> str:
        return str(self._work / "cold" / name)

    # ---------------------------------------------------------------------------------------------------- preparation

    def _add_debian(self, root: Path) -> str:
        """Push a root file system as an image of one layer."""
        state = self._work / "prepared"
        img = [*self._img, "-s", str(state)]
        target = f"{self._registry.address}/debian:1"
        run([*img, "import", str(root), target], env=self._environment)
        run([*img, "push", target], env=self._environment)
        remove(state)
        return target

    def _large_image(self) -> str:
        """Push a layer that nothing can compress."""
        if self._large is None:
            self._large = self._push_layout("large", make_image([{"data": os.urandom(_LARGE)}], compress=False))
        return self._large

    def _push_layout(self, name: str, image: SmallImage) -> str:
        layout = self._work / "layout"
        write_layout(layout, {"1": image})
        target = f"{self._registry.address}/{name}:1"
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{target}"]
        run(copy, env=self._environment)
        shutil.rmtree(layout)
        return target


def _skopeo_from(source: str) -> Command:
    return ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{source}"]


def _environment(work: Path) -> dict[str, str]:
    """Return an environment in which the container tools use nothing of the user's own."""
    config = work / "home/.config/containers"
    config.mkdir(parents=True)
    (config / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (config / "storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    runtime = work / "runtime"
    runtime.mkdir(mode=0o700)
    return {
        **clean_environment(),
        "HOME": str(work / "home"),
        "XDG_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
