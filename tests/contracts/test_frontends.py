"""Frontends against their contract: ours, and one that is as small as can be."""

from __future__ import annotations

from img_core.testing.contracts.frontend import FrontendContract
from img_frontend_dockerfile._frontend import DockerfileFrontend


class TestDockerfile(FrontendContract):
    frontend_class = DockerfileFrontend
    definition = b"FROM scratch AS a\nCOPY f /f\nFROM b\nRUN --mount=type=cache,target=/c x\nCOPY --link --from=a /f /g\nWORKDIR /w\n"
    other_definition = b"FROM scratch\nCOPY g /f\n"
