"""The same Dockerfile built by img and by buildah gives the same root file system, configuration and history."""

from __future__ import annotations

from pathlib import Path

import pytest

from compare.builders import Builders
from compare.differences import surprises
from compare.dockerfiles import CASES, REFUSED

pytestmark = [pytest.mark.rootless, pytest.mark.compare]


#: The big base image is loaded by one process of pytest-xdist only.
_DEBIAN = pytest.mark.xdist_group("debian")
_NAMES = [pytest.param(name, marks=[_DEBIAN] if "FROM debian" in case.text else []) for name, case in CASES.items()]


@pytest.mark.parametrize("name", _NAMES)
def test_img_and_buildah_make_the_same_image(builders: Builders, tmp_path: Path, name: str) -> None:
    """The same but for what is listed, with its reason, as a known difference; and what is listed does differ."""
    surprising = surprises(name, builders.differences(CASES[name], tmp_path))
    assert not surprising, "\n".join(surprising)


@pytest.mark.parametrize("name", REFUSED)
def test_img_and_buildah_refuse_the_same_dockerfile(builders: Builders, tmp_path: Path, name: str) -> None:
    """Neither makes an image of what is wrong, but for what is listed."""
    surprising = surprises(f"refused/{name}", builders.acceptances(REFUSED[name], tmp_path))
    assert not surprising, "\n".join(surprising)
