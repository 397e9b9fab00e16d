from img_core.testing.contracts.progress import ProgressContract
from img_progress_plain._plain import PlainProgress
from img_progress_plain._quiet import QuietProgress
from img_progress_rawjson._rawjson import RawJsonProgress
from img_progress_tty._tty import TerminalProgress


class TestPlain(ProgressContract):
    progress_class = PlainProgress


class TestQuiet(ProgressContract):
    progress_class = QuietProgress


class TestRawJson(ProgressContract):
    progress_class = RawJsonProgress


class TestTerminal(ProgressContract):
    progress_class = TerminalProgress
