"""All hooks, in the order in which a build meets them.

Two kinds of hooks share this file. **Drivers** (`img_frontend` … `img_command`): a module named by an entry point of the group
``img.<kind>s`` implements exactly one of them and returns a class; it is loaded by name when a command needs it. **Listeners**
(`img_build_planned` …): modules of the group ``img.plugins``, loaded once per command that builds; all of them are called.

Hooks only gain arguments: an implementation may ask for fewer, so old plugins keep working. A driver:

.. code-block:: python

    from img_core.spec import Exporter, hookimpl

    @hookimpl
    def img_exporter() -> type[Exporter]:
        from img_exporter_tar._tar import TarExporter  # the real work is imported only when it is used

        return TarExporter

.. code-block:: toml

    [project.entry-points."img.exporters"]
    tar = "img_exporter_tar.plugin"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from img_core.spec.kinds import CONTRACTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import click

    from img_core.spec.cache import CacheBackend
    from img_core.spec.credentials import CredentialStore
    from img_core.spec.engine import Engine
    from img_core.spec.executor import Executor
    from img_core.spec.exporter import Attestation, BuiltImage, Exporter
    from img_core.spec.frontend import Frontend, Plan
    from img_core.spec.graph import RunAddition, SourceOp, Vertex
    from img_core.spec.host import Finding, Host
    from img_core.spec.importer import Importer
    from img_core.spec.progress import Event, Progress
    from img_core.spec.registry import Registry
    from img_core.spec.secret import SecretProvider
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.source import Source
    from img_core.spec.values import Descriptor, DiffId

__all__ = ["DRIVER_HOOKS", "PROJECT", "hookimpl", "hookspec"]

PROJECT = "img"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: kind of driver -> hook; the entry-point group is ``img.`` + the kind's plural
DRIVER_HOOKS = {kind: f"img_{kind}" for kind in CONTRACTS}


@hookspec(firstresult=True)
def img_frontend() -> type[Frontend] | None:
    """Return a frontend class: ``dockerfile = "img_frontend_dockerfile.plugin"`` in ``img.frontends``."""


@hookspec(firstresult=True)
def img_source() -> type[Source] | None:
    """Return a source class; the entry point is named like the scheme: ``docker-image`` in ``img.sources``."""


@hookspec(firstresult=True)
def img_registry() -> type[Registry] | None:
    """Return a registry class: ``oci`` in ``img.registries``."""


@hookspec(firstresult=True)
def img_executor() -> type[Executor] | None:
    """Return an executor class: ``userns`` in ``img.executors``."""


@hookspec(firstresult=True)
def img_snapshotter() -> type[Snapshotter] | None:
    """Return a snapshotter class: ``overlayfs`` in ``img.snapshotters``."""


@hookspec(firstresult=True)
def img_exporter() -> type[Exporter] | None:
    """Return an exporter class: ``tar`` in ``img.exporters`` serves ``-o type=tar``."""


@hookspec(firstresult=True)
def img_importer() -> type[Importer] | None:
    """Return an importer class: ``archive`` in ``img.importers`` serves ``img load``."""


@hookspec(firstresult=True)
def img_credentials() -> type[CredentialStore] | None:
    """Return a credential store class: ``dockerconfig`` in ``img.credentials``."""


@hookspec(firstresult=True)
def img_secret() -> type[SecretProvider] | None:
    """Return a secret provider class: ``file`` in ``img.secrets`` serves ``--secret id=ID,type=file``."""


@hookspec(firstresult=True)
def img_cache() -> type[CacheBackend] | None:
    """Return a cache backend class: ``registry`` in ``img.caches`` serves ``--cache-to type=registry``."""


@hookspec(firstresult=True)
def img_engine() -> type[Engine] | None:
    """Return an engine class: ``dask`` in ``img.engines`` serves ``--engine dask``."""


@hookspec(firstresult=True)
def img_progress() -> type[Progress] | None:
    """Return a progress class: ``plain`` in ``img.progress`` serves ``--progress=plain``."""


@hookspec(firstresult=True)
def img_command() -> click.Command | None:
    """Return a further command of ``img``: ``scan`` in ``img.commands`` adds ``img scan``.

    It takes the global flags as all commands do; what they say is in the `img_core.api.CommandLine` that ``click.pass_obj`` gives.
    """


@hookspec(firstresult=True)
def img_source_wanted(source: SourceOp) -> SourceOp | None:
    """Called once for each image, URL and repository that a build definition names, before anything is asked of it: use it for policies.

    Return another one to have that instead, e.g. with a digest: it is shown to all listeners, this one included, until none wants
    anything else. Raising an ImgError stops the build. What is shown to people keeps the name in the definition. Calls may come from
    any thread, one at a time.

    .. code-block:: python

        @hookimpl
        def img_source_wanted(source):
            if source.identifier.startswith("docker-image://docker.io/"):
                raise UsageError("images of Docker Hub are not allowed here")
    """


@hookspec
def img_run_planned(vertex: Vertex) -> RunAddition | None:
    """Called once for each RUN step of a build, before `img_build_planned`. What is returned is added to the step.

    It enters the step's identity and cache key as if the build definition said it: another value makes the step run again. Two listeners
    may not say different things about one variable. An exception stops the build.

    .. code-block:: python

        @hookimpl
        def img_run_planned(vertex):
            return RunAddition(env=(("PIP_INDEX_URL", "https://mirror.example/simple"),))
    """


@hookspec
def img_build_planned(plan: Plan) -> None:
    """Called once per build, after planning and before anything runs. Raising an ImgError stops the build: use it for policies."""


@hookspec
def img_step_finished(vertex: Vertex, cached: bool, seconds: float) -> None:
    """Called after each step that ended well, also a cached one, by the thread of `img_event`.

    Failures are reported and do not stop the build.
    """


@hookspec
def img_step_failed(vertex: Vertex, error: str, seconds: float) -> None:
    """Called after a step that failed, with the reason in one line, instead of `img_step_finished` and before `img_build_finished`.

    One that was canceled, as all others are then, has not failed. By the thread of `img_event`; failures of listeners are reported.
    """


@hookspec
def img_layer_committed(vertex: Vertex, descriptor: Descriptor, diff_id: DiffId) -> None:
    """Called when a layer that a step made is kept as a blob, once for each form in which it was packed; not for one that was there.

    No layer is packed for outputs that are trees of files. By the thread of `img_event`; failures are reported and do not stop the build.
    """


@hookspec
def img_image_built(image: BuiltImage, names: Sequence[str]) -> Sequence[Attestation] | None:
    """Called once for each image of a build whose steps have all ended, before any output is written. What is returned is attached to it.

    Outputs that are images become an index with one more manifest for the statements about each image, as BuildKit writes it; without any
    statement nothing changes. Those of several listeners stand in the order of the calls. *image* has its layers as the first output wants
    them; its files can be read. An exception stops the build: nothing is exported without what was to be stated.

    .. code-block:: python

        @hookimpl
        def img_image_built(image):
            return [Attestation("https://example.org/reviewed/v1", {"by": "somebody"})]
    """


@hookspec
def img_exported(exporter: str, names: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Called after each output is complete: the word behind ``type=``, the names given with ``-t``, and what the exporter tells of it,
    e.g. ``containerimage.digest``. By the thread of `img_event`; failures are reported and do not stop the build. Any: JSON.
    """


@hookspec
def img_build_finished(error: str, seconds: float) -> None:
    """Called at the end of each build that was planned, last of all; *error* is empty if it went well, ``canceled``, or says in a line why
    it failed. By the thread of `img_event`; failures are reported.
    """


@hookspec
def img_event(event: Event) -> None:
    """Called for each progress event, in order, from one thread, which delays nobody. Failures are reported and do not stop the build.

    Who is slow hears late: output and states of transfers are left out when very much waits, and the end of a build waits three seconds.
    """


@hookspec
def img_doctor(host: Host) -> Sequence[Finding] | None:
    """Called by ``img doctor``: return what you looked at on this host, and the one command that would improve it.

    Called in a thread of its own; what takes longer than five seconds is given up. A failure is a line of the report and ends nothing. The
    environment of the user is `Host.environment`. Only ``bad`` findings, with which builds fail, make ``img doctor`` end with status 7.

    .. code-block:: python

        @hookimpl
        def img_doctor(host):
            there = os.path.exists("/etc/mine.conf")
            return [Finding("ok" if there else "worse", "mine", "configured" if there else "no `/etc/mine.conf`", "`mine setup`")]
    """
