"""The doctor answers everywhere: on a host without namespaces it says so instead of failing."""

from __future__ import annotations

import json


def test_every_finding_has_a_status_and_the_exit_status_tells_whether_builds_can_work(run) -> None:
    done = run("doctor", "--format", "json")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {finding["status"] for finding in findings} <= {"ok", "worse", "bad"}
    assert done.returncode == (7 if any(finding["status"] == "bad" for finding in findings) else 0)
    assert done.stderr == ""


def test_a_broken_plugin_is_among_the_findings(run) -> None:
    done = run("doctor", "--no-plugin", "snapshotter:*", "--no-plugin", "executor:*")
    assert done.returncode == 7
    assert "\nhint: " in done.stdout
