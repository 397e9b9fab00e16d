"""Builds at random: img and buildah make the same of them, and a rebuild after a change what a build without cache makes.

``nox -s compare -- --random N --random-from S`` tries the seeds S to S + N - 1; a seed is a part of its test's name.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from compare.builders import Builders
from compare.changes import changed
from compare.dockerfiles import Case, write_files
from compare.generated import generate
from harness.build_server import BuildServer, build_server
from harness.compare import config_differences, document_differences, history_differences, tree_differences
from harness.fixtures import NewState
from harness.img import environment
from harness.oci import ImageArchive

pytestmark = [pytest.mark.rootless, pytest.mark.compare]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the seeds that are asked for."""
    count, first = metafunc.config.getoption("random", 40), metafunc.config.getoption("random_from", 0)
    metafunc.parametrize("seed_number", range(first, first + count))


def test_img_and_buildah_make_the_same_of_a_random_build(builders: Builders, tmp_path: Path, seed_number: int) -> None:
    """The same files, configuration and history, or an error by both."""
    case = generate(seed_number).case()
    found = builders.differences_or_refusal(case, tmp_path)
    assert not found, _report(found, case)


def test_a_rebuild_after_a_random_change_makes_what_a_new_build_makes(
    server: BuildServer, new_state: NewState, tmp_path: Path, seed_number: int
) -> None:
    """No step takes an old result: neither after the change nor when it is taken back."""
    build = generate(seed_number)
    what, other = changed(build, seed_number)
    with build_server(new_state("fresh").state, environment(tmp_path)) as fresh:
        for name, case in (("first", build.case()), ("changed", other.case()), ("back", build.case())):
            shutil.rmtree(tmp_path / "context", ignore_errors=True)
            write_files(tmp_path / "context", {**case.files, "Dockerfile": case.text})
            rebuilt = _outcome(server, tmp_path, case, f"{name}-again", cached=name == "back")
            if name != "first":
                expected = _outcome(fresh, tmp_path, case, f"{name}-new", no_cache=True)
                found = _differences(rebuilt, expected)
                assert not found, _report([what, name, *found], case)


def _outcome(
    server: BuildServer, directory: Path, case: Case, name: str, *, cached: bool = False, **request: Any
) -> ImageArchive | str:
    """Return the image or the error; *cached* insists on a build that makes nothing."""
    built = server.build(
        directory / "context", None, outputs=[["oci", {"dest": str(directory / name), "compression": "uncompressed"}]],
        build_args=dict(case.build_args), secrets=dict(case.secrets), **request,
    )  # fmt: skip
    assert built.code != 125, str(built)
    assert not (cached and not built.error and built.made), str(built)
    return built.error or ImageArchive(directory / name)


def _differences(rebuilt: ImageArchive | str, expected: ImageArchive | str) -> list[str]:
    """Compare without times: those of the context do not count for the cache."""
    if isinstance(rebuilt, str) or isinstance(expected, str):
        return [] if rebuilt == expected else [f"{rebuilt}, not {expected}"]
    return [
        *tree_differences(rebuilt.tree(), expected.tree()),
        *config_differences(rebuilt.config, expected.config),
        *document_differences(rebuilt.document, expected.document),
        *history_differences(rebuilt.document, expected.document),
        *(
            f"history: {one}, not {two}"
            for one, two in zip_longest(_texts(rebuilt.document), _texts(expected.document))
            if one != two
        ),
    ]


def _texts(document: Mapping[str, Any]) -> list[tuple[str, bool]]:
    return [(entry.get("created_by", ""), entry.get("empty_layer", False)) for entry in document.get("history", ())]


def _report(found: list[str], case: Case) -> str:
    return "\n".join(
        [
            *found,
            "--- Dockerfile",
            case.text,
            "--- .dockerignore",
            str(case.files[".dockerignore"]),
            str(case.build_args),
        ]
    )
