"""The suites are sharp: each notices every one of these drivers, which are good ones with one thing wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from harness.mutants import Mutant, caches, commands, exporters, machines, registries, rooms, showing, sources, stores
from img_core.testing.running import Outcome, run_suites

pytestmark = pytest.mark.rootless  # of snapshotters and executors

MUTANTS: Mapping[str, Mapping[str, Mutant]] = {
    "cache": caches.CACHES,
    "command": commands.COMMANDS,
    "credentials": stores.CREDENTIALS,
    "engine": machines.ENGINES,
    "executor": rooms.EXECUTORS,
    "exporter": exporters.MUTANTS,
    "frontend": showing.FRONTENDS,
    "importer": stores.IMPORTERS,
    "listener": showing.LISTENERS,
    "progress": showing.PROGRESS,
    "registry": registries.REGISTRIES,
    "snapshotter": rooms.SNAPSHOTTERS,
    "secret": stores.SECRETS,
    "source": sources.SOURCES,
}
ALL = [(kind, name) for kind, table in MUTANTS.items() for name in table]


@cache
def outcomes(kind: str) -> Mapping[str, list[Outcome]]:
    """Return what the suite of a kind says about each of its mutants, by its name, and about the good drivers, by `good`."""
    mutants = MUTANTS[kind]
    good: dict[tuple[type, object], list[Mutant]] = {}
    for mutant in mutants.values():
        good.setdefault((mutant.suite, mutant.good), []).append(mutant)
    found = run({name: (mutant.under(mutant.driver), [mutant.claim]) for name, mutant in mutants.items()})
    once = [(of[0].under(of[0].good), sorted({mutant.claim for mutant in of})) for of in good.values()]
    kept = run({str(number): suite for number, suite in enumerate(once)})
    return found | {"good": [outcome for told in kept.values() for outcome in told]}


def run(suites: Mapping[str, tuple[type, list[str]]]) -> dict[str, list[Outcome]]:
    """Run claims of suites, by names, in one process: to start it takes longer than they do."""
    classes = {f"TestMutant{number:03}": name for number, name in enumerate(suites)}
    made = {suite: suites[name][0] for suite, name in classes.items()}
    chosen = " or ".join(
        f"({suite} and ({' or '.join(f'({claim})' for claim in suites[name][1])}))" for suite, name in classes.items()
    )
    found: dict[str, list[Outcome]] = {name: [] for name in suites}
    for outcome in run_suites(lambda: made, select=chosen):
        found[classes[outcome.suite]].append(outcome)
    return found


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[f"{kind}-{name}" for kind, name in ALL])
def test_the_suite_notices_a_driver_that(kind: str, name: str) -> None:
    found = outcomes(kind)[name]
    assert [outcome for outcome in found if outcome.status == "failed"], f"noticed by none of: {found}"


@pytest.mark.parametrize("kind", MUTANTS)
def test_the_good_driver_keeps_what_its_mutants_break(kind: str) -> None:
    good = outcomes(kind)["good"]
    assert [(outcome.claim, outcome.details) for outcome in good if outcome.status == "failed"] == []
    assert len(good) >= len({mutant.claim for mutant in MUTANTS[kind].values()})


def test_there_are_enough() -> None:
    assert {kind: len(table) for kind, table in MUTANTS.items() if len(table) < 10} == {}
