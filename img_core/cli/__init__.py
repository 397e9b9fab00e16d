"""The command line. Importing this costs next to nothing; the frame and each command are imported when they run."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stubs; `signal` costs as much as all the rest
import atexit
import gc
import os
import sys

TYPE_CHECKING = False  # see `img_core.linux.stdout`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["COMPLETION_VARIABLE", "main"]

COMPLETION_VARIABLE = "_IMG_COMPLETE"  #: set by a shell that asks what a command line could go on with

#: Variables by which the user's environment (modules of a cluster, a virtual environment) changes what an interpreter imports.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME")


def main(arguments: Sequence[str] | None = None, *, isolated: bool = True) -> NoReturn:
    """Run ``img`` with *arguments* (default: those of the process) and exit with its status.

    The program ``img`` is *isolated*: modules that the environment offers to Python programs do not replace those of its installation.
    """
    if arguments is None:
        _die_by_interrupt()
        if isolated:
            _isolate()
    gc.set_threshold(50_000, 20, 20)  # a tenth of start-up went into looking for cycles among modules
    words = list(sys.argv[1:] if arguments is None else arguments)
    traced = _is_traced(words)
    if traced:  # first of all, because imports are a large part of a small command
        from img_core.linux import spans

        spans.begin()
    from img_core.cli._exit import guarded

    program = arguments is None and isolated  # then nothing of the directory we are in is imported
    status = guarded(lambda: _run_traced(words, program) if traced else _run(words, program))
    if arguments is None:
        _leave(status)
    sys.exit(status)


def _die_by_interrupt() -> None:
    """Let Ctrl-C end us as it ends other programs until `guarded` handles it; Python would show where the imports were."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _isolate() -> None:
    """Start this process over if variables of the environment decide what it imports.

    The variables stay for the programs that we start. Where we are found by ``PYTHONPATH`` ourselves, as some package managers do it,
    it is needed.
    """
    if sys.flags.ignore_environment or not any(os.environ.get(name) for name in _FOREIGN):
        return
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if any(os.path.realpath(path) == os.path.realpath(ours) for path in paths if path):
        return
    os.execv(sys.executable, [sys.executable, "-E", *sys.orig_argv[1:]])  # noqa: S606


def _is_traced(words: list[str]) -> bool:
    """Tell whether the command line may ask for a trace; whether it does is known once it was parsed."""
    return bool(os.environ.get("IMG_TRACE")) or any(word.partition("=")[0] == "--trace" for word in words)


def _run_traced(words: list[str], program: bool) -> None:
    from img_core.cli._trace import written_at_the_end

    with written_at_the_end(os.environ.get("IMG_TRACE", "")):
        _run(words, program)


def _leave(status: int) -> NoReturn:
    """End the process at once: to take the interpreter apart takes 10 ms with all our modules.

    `guarded` has flushed the output, and our threads have ended. One that a plugin left behind must not hold the command.
    """
    atexit._run_exitfuncs()  # noqa: SLF001  # what `sys.exit` would call
    os._exit(status)


def _run(words: list[str], program: bool) -> None:
    if words in (["-v"], ["--version"]):  # without click: it costs 30 ms
        from img_core.cli._output import echo
        from img_core.cli._version import version_line

        echo(version_line())
        return
    if words == ["version"]:
        from img_core.cli._output import echo
        from img_core.cli._version import version_page

        echo(version_page())
        return
    shared = os.path.isdir("/.img")
    if shared:  # where a step may have the files of an image in `/`, settings among them
        from img_core.cli._output import say
        from img_core.files.rootlock import share

        share(say)
    if "build" in words:  # perhaps as before, with nothing changed: a fifth of the time
        from img_core.cli._repeated import answered

        if answered(words):
            return
    compiled = None
    if program and not shared:
        from img_core.cli._bundle import use

        compiled = use()
    from img_core.cli._plain import understood

    plain = understood(words)
    _import_lightly("inspect" if plain else "click")
    if compiled:
        compiled.use_for_functions()
    if plain:
        plain()
        return
    from img_core.cli._frame import run

    run(words)


def _import_lightly(name: str) -> None:
    """Import click or `inspect`, which is below it and our own values, without what they need for other things than ours: a third of it.

    That is `uuid`, for one of click's types of arguments; translations, of which it has none; what reads sources and bytecode.
    """
    from importlib import import_module

    from img_core.cli._beside_click import stand_ins
    from img_core.linux.later import standing_in

    with standing_in(stand_ins()):
        import_module(name)
