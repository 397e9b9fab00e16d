"""What one command sets up: the namespace, the zygote, the store and the plugins, in the only order that works."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from img_core.linux.spans import span
from img_core.spec.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from img_core.config import Config
    from img_core.linux.userns import Identity
    from img_core.plugins import Plugins
    from img_core.spec.executor import Executor
    from img_core.spec.registry import Registry
    from img_core.spec.snapshotter import Snapshotter
    from img_core.spec.source import Source
    from img_core.store import Store

__all__ = ["Session"]


class Session:
    """One command's use of one state directory. Use as a context manager.

    With *namespace* the process enters its user namespace (once; it must have a single thread) and starts the zygote: needed by whatever
    runs steps, mounts, or touches files of other ids. Without it only names and blobs can be used. *cleaning*: see `Store`.
    *notice* gets one-line messages, *trace* what only somebody wants to read who looks for a fault.
    """

    def __init__(
        self,
        config: Config,
        *,
        namespace: bool,
        writable: bool = True,
        cleaning: bool = False,
        notice: Callable[[str], None] = lambda _text: None,
        trace: Callable[[str], None] = lambda _text: None,
    ) -> None:
        from img_core.plugins import Plugins

        self.config = config
        self.plugins: Plugins = Plugins(config, trace)
        self.notice = notice
        #: build contexts that were fetched from elsewhere, see `prepare_context`
        self.fetched: dict[str, tuple[str, Callable[[], int | None]]] = {}
        self._opened = ExitStack()
        self._identity: Identity | None = None
        try:
            self._open(namespace=namespace, writable=writable, cleaning=cleaning)
        except BaseException:
            self._opened.close()
            raise

    def _open(self, *, namespace: bool, writable: bool, cleaning: bool) -> None:
        from img_core.files.trust import check_trusted

        check_trusted(self.config.state_directory, self.config.environment)
        spawner = None
        if namespace:
            from img_core.linux import userns
            from img_core.linux.zygote import Zygote

            with span("namespace"):
                self._identity = userns.enter()
            os.umask(0o022)  # modes in layers must not depend on who builds
            with span("namespace", "zygote"):
                spawner = Zygote.start()  # before the first thread and before anything large is in memory
            self._opened.callback(spawner.close)
        from img_core.store import Store

        identity = self._identity
        with span("store", "open"):
            self.store: Store = self._opened.enter_context(
                Store(
                    self.config.state_directory,
                    writable=writable,
                    cleaning=cleaning,
                    mapping=identity.mode if identity else "none",
                    notice=self.notice,
                )
            )
        self.host = Host(
            mapping=identity.mode if identity else "none",
            state_directory=self.store.state,
            run_directory=self.store.run.path if self.store.run else "",
            spawner=spawner,
            real_uid=identity.uid if identity else os.getuid(),
            real_gid=identity.gid if identity else os.getgid(),
            mapping_reason=(identity.fallback_reason or "") if identity else "",
            environment=self.config.environment,
            registry=self.registry,
        )

    def snapshotter(self, name: str) -> Snapshotter:
        """Return the snapshotter *name* (perhaps ``name,key=value``, or ``auto``) and let the store use its snapshots."""
        made: Snapshotter = self.plugins.make("snapshotter", name, self.host, host=self.host)
        self.store.use(made.format or made.name)
        return made

    def executor(self, name: str) -> Executor:
        """Return the executor *name* (perhaps ``name,key=value``, or ``auto``)."""
        made: Executor = self.plugins.make("executor", name, self.host, host=self.host)
        return made

    def sources(
        self,
        *,
        contexts: Mapping[str, str] | None = None,
        ignore_files: Mapping[str, str] | None = None,
        insecure: Sequence[str] = (),
        offline: bool = False,
        **more: Any,
    ) -> Callable[[str], Any]:
        """Return a function from scheme to source object, each made once. Any: an image or a tree source.

        *more* are further fields of `SourceContext`.
        """
        from img_core.spec.source import SourceContext

        context = SourceContext(
            self.host_for(offline=offline),
            dict(contexts or {}),
            dict(ignore_files or {}),
            insecure=frozenset(insecure),
            seen=lambda reference: self.store.seen(reference),
            document=lambda digest: self.store.document(digest),
            offline=offline,
            **more,
        )
        made: dict[str, Source] = {}
        making = threading.Lock()

        def source(scheme: str) -> Source:
            with making:
                if scheme not in made:
                    made[scheme] = self.plugins.make("source", scheme, context)
                    self._opened.callback(made[scheme].close)
                    if made[scheme].waits:
                        self._close_on_cancel(made[scheme], context.cancel_fd)
                return made[scheme]

        return source

    def host_for(self, *, offline: bool) -> Host:
        """Return the host; *offline* one whose registries are never asked."""
        if not offline:
            return self.host
        from dataclasses import replace

        from img_core.images.offline import OfflineRegistry
        from img_core.spec.registry import RegistryContext

        return replace(self.host, registry=lambda **_more: OfflineRegistry(RegistryContext()))

    def _close_on_cancel(self, source: Source, cancel_fd: int) -> None:
        """End what *source* waits for when *cancel_fd* becomes readable."""
        from img_core.linux.cancellation import CloseOnCancel

        self._opened.callback(CloseOnCancel(cancel_fd, source).stop)

    def registry(self, *, insecure: Iterable[str] = (), brief: bool = False) -> Registry:
        """Return a registry that uses our credentials (see `Registries`); it is closed with the session at the latest."""
        from img_core.api._credentials import Accounts, open_registry
        from img_core.spec.registry import RegistryContext

        environment = self.config.environment
        accounts = Accounts(self.plugins, environment, self.notice)
        opened = open_registry(self.plugins, RegistryContext(environment, accounts.find, frozenset(insecure), brief))
        self._opened.callback(opened.close)
        return opened

    def close(self) -> None:
        """Close the store and end the zygote."""
        with span("store", "close"):
            self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
