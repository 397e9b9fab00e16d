"""What plugins have to say about the host (`img_doctor`): none of them breaks the report, whatever it does."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from img_core.cli.doctor._finding import WORSE, Finding
from img_core.spec.errors import ImgError, PluginError
from img_core.spec.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from img_core.plugins import Plugins
    from img_core.spec.host import Host

__all__ = ["checks"]

_PATIENCE: Final = 5.0  # seconds for one plugin


def checks(plugins: Plugins, host: Host, *, patience: float = _PATIENCE) -> Iterator[Finding]:
    """Ask all listeners, each for *patience* seconds. One that cannot even be loaded is reported as a plugin that is broken."""
    try:
        implementations = plugins.listeners().img_doctor.get_hookimpls()
    except PluginError:
        return
    for implementation in implementations:
        values = [host] if "host" in implementation.argnames else []
        name = implementation.plugin_name
        yield from _asked(name, lambda call=implementation.function, values=values: call(*values), patience)  # type: ignore[misc]


def _asked(name: str, ask: Callable[[], Sequence[Finding] | None], patience: float) -> list[Finding]:
    """Return what *ask* answers, or one finding that says what is wrong with the plugin *name*."""
    answers: list[Finding] = []

    def work() -> None:
        try:
            answers.extend(_tidy(finding) for finding in ask() or ())
        except ImgError as err:
            answers[:] = [_failed(name, err.message, err.hint or "")]
        except BaseException as err:  # it may even call sys.exit: the report goes on
            answers[:] = [_failed(name, f"its check failed: {type(err).__name__}: {one_line(str(err))}")]

    # A daemon: who never answers keeps nobody from leaving.
    thread = threading.Thread(target=work, name=f"img-doctor-{name}", daemon=True)
    thread.start()
    thread.join(patience)
    return [_failed(name, f"its check gave no answer in {patience:g} seconds")] if thread.is_alive() else answers


def _failed(name: str, text: str, hint: str = "") -> Finding:
    plugin = name.partition(" ")[0]
    return Finding(WORSE, plugin.replace(":", " "), text, hint or f"do without: `--no-plugin {plugin}`")


def _tidy(finding: Finding) -> Finding:
    """Return *finding* as lines of a table can hold it."""
    return replace(finding, what=one_line(finding.what), text=one_line(finding.text), hint=one_line(finding.hint))
