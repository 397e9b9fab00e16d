"""What the three shells are given, and how they ask: each script calls ``img`` with the line so far in the environment.

The asking is click's (``_IMG_COMPLETE=bash_complete``, see click.shell_completion); the words are found by `answers`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

from img_core.cli import COMPLETION_VARIABLE
from img_core.cli.completion.answers import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

__all__ = ["answer", "script"]

# bash breaks words at = and : as well (COMP_WORDBREAKS) and replaces only what follows the last of them, so it gives the line as it is
# and gets of each answer only that part.
_BASH = """\
_img_completion() {
    local IFS=$'\\n' kind value
    COMPREPLY=()
    while IFS= read -r kind && IFS= read -r value; do
        case $kind in
            word) COMPREPLY+=("$value") ;;
            open) compopt -o nospace; COMPREPLY+=("$value") ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
        esac
    done < <(_IMG_LINE="${COMP_LINE:0:COMP_POINT}" _IMG_BREAKS="$COMP_WORDBREAKS" _IMG_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -F _img_completion img
"""

_ZSH = """\
#compdef img

_img() {
    local -a words_alone words_open
    local kind value
    (( ! $+commands[img] )) && return 1
    while IFS= read -r kind && IFS= read -r value; do
        case $kind in
            word) words_alone+=("$value") ;;
            open) words_open+=("$value") ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done < <(COMP_WORDS="${(pj:\\n:)words[1,CURRENT]}" _IMG_COMPLETE=zsh_complete img 2>/dev/null)
    (( $#words_alone )) && compadd -U -- "${words_alone[@]}"
    (( $#words_open )) && compadd -U -S '' -- "${words_open[@]}"
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _img "$@"
else
    compdef _img img
fi
"""

_FISH = """\
function _img_completion
    set -l answer (env _IMG_COMPLETE=fish_complete COMP_WORDS=(commandline -cp | string collect) img 2>/dev/null)
    set -l kind ''
    for line in $answer
        if test -z "$kind"
            set kind $line
            continue
        end
        switch $kind
            case word open
                echo $line
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
        end
        set kind ''
    end
end

complete --no-files --command img --arguments '(_img_completion)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """Return what *shell* (``bash``, ``zsh``, ``fish``) has to read."""
    return _SCRIPTS[shell]


class _Asking(ShellComplete):
    """One question: two lines for each answer, its kind (``word``, ``open``, ``dir``, ``file``) and its text."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return the answers."""
        return answers(self.cli, args, incomplete)

    def format_completion(self, item: CompletionItem) -> str:
        """Return the two lines of an answer."""
        return f"{item.type}\n{item.value}"


class _Bash(_Asking):
    name: ClassVar[str] = "bash"

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        return _words(os.environ.get("_IMG_LINE", ""))

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return of each answer what follows the last character at which bash breaks the word."""
        breaks = os.environ.get("_IMG_BREAKS", "=:")
        known = 1 + max(incomplete.rfind(character) for character in breaks + " ")
        return [
            CompletionItem(item.value[known:] if item.type in ("word", "open") else item.value, type=item.type)
            for item in super().get_completions(args, incomplete)
        ]


class _Zsh(_Asking):
    name: ClassVar[str] = "zsh"

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one; they come one a line."""
        words = os.environ.get("COMP_WORDS", "").split("\n")
        return words[1:-1], words[-1] if len(words) > 1 else ""


class _Fish(_Asking):
    name: ClassVar[str] = "fish"

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        return _words(os.environ.get("COMP_WORDS", ""))


def _words(line: str) -> tuple[list[str], str]:
    """Return the words of *line* without the command, and the one that is being typed, which may be empty."""
    words = split_arg_string(line)[1:]
    if not words or line[-1:].isspace():
        return words, ""
    return words[:-1], words[-1]


_ASKING: Mapping[str, type[_Asking]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def answer(root: click.Command) -> str:
    """Return what the shell that asks is told; nothing if it asks in words that we do not know."""
    shell, _, instruction = os.environ.get(COMPLETION_VARIABLE, "").partition("_")
    if shell not in _ASKING:
        return ""
    if instruction == "source":  # how click's own documentation lets people get a script
        return script(shell)
    text = _ASKING[shell](root, {}, "img", COMPLETION_VARIABLE).complete()
    return f"{text}\n" if text else ""
