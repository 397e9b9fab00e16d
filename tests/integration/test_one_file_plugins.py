"""Plugins of a single file: in the user's directory or named by ``--plugin``, never from a context, and forbidden where someone says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.img import Finished, Img, write_context
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec.errors import PluginError, UsageError

pytestmark = pytest.mark.rootless

EXPORTER = '''
from __future__ import annotations
import dataclasses, os
from img_core.spec import Exporter, hookimpl
WITNESS
@dataclasses.dataclass
class Seen:
    """Wants its module in sys.modules."""
    count: int = 0
class Listing(Exporter):
    """Writes how many images there are."""
    name, needs_layers = "list", False
    schema = {"type": "object", "additionalProperties": False,
              "properties": {"dest": {"type": "string", "description": "file"}}}
    def export(self, result, progress):
        from img_core.files.output import open_output
        with open_output(self.options.get("dest")) as output:
            output.write(b"%d images\\n" % Seen(len(result.images)).count)
            progress.status("written")
        return {}
@hookimpl
def img_exporter():
    return Listing
'''
LISTENER = (
    "import os\nfrom img_core.spec import hookimpl\n@hookimpl\ndef img_build_planned(plan):\n    os.mkdir({path!r})\n"
)
COMMAND = (
    "import click\nfrom img_core.spec import hookimpl\n@click.command()\ndef hi():\n    '''Say it.'''\n    print('hi')\n"
    "@hookimpl\ndef img_command():\n    return hi\n"
)


@pytest.fixture
def directory(img: Img) -> Path:
    """The user's directory of plugins."""
    path = img.home / ".config/img/plugins"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", "FROM scratch\nCOPY file /\n", {"file": "x"})


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def exporter(witness: Path | None = None) -> str:
    return EXPORTER.replace("WITNESS", f"os.makedirs({str(witness)!r}, exist_ok=True)" if witness else "")


def row(done: Finished, kind: str = "exporter", name: str = "list") -> dict[str, str]:
    rows = [json.loads(line) for line in done.ok().text.splitlines()]
    found = [row for row in rows if (row["kind"], row["name"]) == (kind, name)]
    return found[0] if found else {}


def test_a_file_of_the_directory_is_a_plugin_at_once(img: Img, directory: Path, context: Path, tmp_path: Path) -> None:
    assert row(img.run("plugins", "ls", "--format", "json")) == {}
    path = put(directory / "exporter-list.py", exporter())
    found = row(img.run("plugins", "ls", "--format", "json"))
    assert (found["status"], found["distribution"], found["module"]) == ("ok", str(path), str(path))
    img.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="").ok()
    assert (tmp_path / "out").read_text() == "1 images\n"
    img.build(context, "-o", f"type=list,dset={tmp_path}/out", tag="").refused(2, "unknown option `dset` for type=list")
    assert f"distribution  {path}" in img.run("plugins", "info", "exporter:list").ok().text
    assert [entry.name for entry in directory.iterdir()] == ["exporter-list.py"]
    path.unlink()
    assert row(img.run("plugins", "ls", "--format", "json")) == {}


def test_a_file_may_be_named_for_one_command(img: Img, context: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "exporter-list.py", exporter())
    img.build(context, "--plugin", path, "-o", f"type=list,dest={tmp_path}/out", tag="").ok()
    img.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="").refused(2, "no exporter is named `list`")
    listener = put(tmp_path / "listener-mark.py", LISTENER.format(path=str(tmp_path / "heard")))
    img.with_flags("--plugin", str(listener)).build(context).ok()
    assert (tmp_path / "heard").is_dir()
    command = put(tmp_path / "command-hi.py", COMMAND)
    assert img.run("--plugin", command, "hi").ok().text == "hi\n"
    img.run("plugins", "check", "--plugin", path, "exporter:list", "-k", "importing or accepts or cancel").ok()


def test_nothing_of_a_context_is_ever_a_plugin(img: Img, tmp_path: Path) -> None:
    witness = tmp_path / "imported"
    names = (
        "exporter-list.py",
        "plugins/exporter-list.py",
        ".config/img/plugins/exporter-list.py",
        "img/plugins/exporter-list.py",
    )
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY . /\n", dict.fromkeys(names, exporter(witness)))
    done = img.run("build", "-o", f"type=list,dest={tmp_path}/out", ".", cwd=context)
    done.refused(2, "no exporter is named `list`")
    img.run("build", "-t", "x", ".", cwd=context).ok()
    assert not witness.exists()


@pytest.mark.parametrize("name", ["list.py", "exporter.py", "exporter-.py", "exportr-list.py"])
def test_a_name_that_says_no_kind_is_told(img: Img, directory: Path, tmp_path: Path, name: str) -> None:
    path = put(directory / name, exporter(tmp_path / "imported"))
    done = img.run("plugins", "ls").ok()
    assert f"warning: `{path}` is no plugin: its name must be `KIND-NAME.py`" in done.stderr
    img.run("--plugin", path, "plugins", "ls").refused(2, "is not the name of a plugin")
    assert not (tmp_path / "imported").exists()


def test_mistakes_are_one_line(img: Img, directory: Path, context: Path, tmp_path: Path) -> None:
    img.run("--plugin", tmp_path / "exporter-x.py", "plugins", "ls").refused(
        2, f"there is no file `{tmp_path}/exporter-x.py`"
    )
    path = put(directory / "exporter-bad.py", "def")
    found = row(img.run("plugins", "ls", "--format", "json"), name="bad")
    assert (found["status"], "SyntaxError" in found["reason"]) == ("broken", True)
    img.build(context, "-o", "type=bad", tag="").refused(
        1, f"plugin exporter:bad of {path} cannot be imported: SyntaxError"
    )
    put(directory / "exporter-tar.py", exporter())
    img.build(context, "-o", "type=tar,dest=-", tag="").refused(
        1, "exporter `tar` is claimed by img-builder", "exporter-tar.py"
    )
    img = img.with_environment(TMPDIR=str(tmp_path))  # for the report
    put(directory / "exporter-list.py", exporter().replace("return {}", "1 / 0"))
    done = img.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="")
    done.refused(1, f"plugin exporter:list of {directory}/exporter-list.py failed: ZeroDivisionError")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_not_run(img: Img, directory: Path, tmp_path: Path, mode: int) -> None:
    put(directory / "exporter-list.py", exporter(tmp_path / "imported"), mode)
    found = row(img.run("plugins", "ls", "--format", "json"))
    assert (found["status"], "can be written by others" in found["reason"]) == ("broken", True)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "` is not a file"),
        (os.mkdir, "cannot be read: is a directory"),
        (lambda path: os.symlink("nowhere", path), "cannot be read: no such file or directory"),
        (lambda path: os.symlink("/dev/zero", path), "` is not a file"),
    ],
    ids=["fifo", "directory", "dangling", "endless"],
)
def test_what_is_no_file_is_told_and_not_waited_for(
    img: Img, directory: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(directory / "exporter-list.py")
    img.run("ls").ok()
    found = row(img.run("plugins", "ls", "--format", "json").ok())
    assert (found["status"], reason in found["reason"]) == ("broken", True), found


WAYS = {
    "a flag": (("--no-plugin", "exporter:list"), {}, ""),
    "a flag for the kind": (("--no-plugin", "exporter:*"), {}, ""),
    "a variable": ((), {"IMG_DISABLED_PLUGINS": "exporter:list"}, ""),
    "the command": ((), {}, ""),
    "a file": ((), {}, 'disabled = ["exporter:list"]\n'),
    "a file for the kind": ((), {}, 'disabled = ["exporter:*"]\nenabled = ["exporter:image"]\n'),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_that_is_switched_off_is_never_imported(
    img: Img, directory: Path, context: Path, tmp_path: Path, way: str
) -> None:
    flags, variables, text = WAYS[way]
    put(directory / "exporter-list.py", exporter(tmp_path / "imported"))
    if text:
        put(img.home / ".config/img/plugins.d/10-off.toml", text)
    if way == "the command":
        img.run("plugins", "disable", "exporter:list").ok()
    off = img.with_flags(*flags).with_environment(**variables)
    assert row(off.run("plugins", "ls", "--format", "json"))["status"] == "disabled"
    off.run("plugins", "info", "exporter:list").ok()
    off.run("plugins", "check", "exporter:list").refused(1, "is switched off by")
    off.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="").refused(1, "exporter `list` is switched off by")
    off.run("doctor")
    off.run("--help").ok()
    assert not (tmp_path / "imported").exists()


# ---- what an administrator says


@pytest.fixture
def plugins(tmp_path: Path) -> object:
    """Return a function that gives the plugins of a machine with these files of configuration."""
    put(tmp_path / "user/img/plugins/exporter-list.py", exporter(tmp_path / "imported"))

    def make(**changes: object) -> Plugins:
        texts = {name: str(changes.pop(name)) for name in ("admin", "distro", "user", "toggles") if name in changes}
        for place, text in texts.items():
            name = {"user": "user/img/config.toml", "toggles": "admin/plugins.d/10.toml"}.get(
                place, f"{place}/config.toml"
            )
            put(tmp_path / name, text)
        variables: Any = changes.pop("environment", {})
        environment = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user"), **variables}
        places = {"distro_directory": str(tmp_path / "distro"), "admin_directory": str(tmp_path / "admin")}
        return Plugins(Config.load(environment=environment, **places, **changes))  # type: ignore[arg-type]

    return make


FORBIDDEN = "[plugins]\nfiles = false\n"
LOCKED = 'disabled = ["exporter:list"]\nlocked = true\n'


@pytest.mark.parametrize("place", ["admin", "distro", "user"])
@pytest.mark.parametrize("lifted", ["", "[plugins]\nfiles = true\n"])
def test_files_can_be_forbidden_and_nobody_lifts_that(plugins, tmp_path: Path, place: str, lifted: str) -> None:  # type: ignore[no-untyped-def]
    texts = {"user": lifted, place: FORBIDDEN}
    made = plugins(**texts)
    assert "list" not in made.names("exporter")
    with pytest.raises(PluginError, match=r"exporter `list` is switched off by .*config\.toml"):
        made.driver("exporter", "list")
    (info,) = [info for info in made.inventory(check=True) if info.name == "list"]
    assert (info.status, info.module) == ("disabled", str(tmp_path / "user/img/plugins/exporter-list.py"))
    named = plugins(plugin_files=[str(tmp_path / "user/img/plugins/exporter-list.py")], **texts)
    with pytest.raises(PluginError, match="plugins of single files are switched off by"):
        named.names("exporter")
    assert "tar" in made.names("exporter")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"environment": {"IMG_DISABLED_PLUGINS": ""}},
        {"user": "[plugins]\nfiles = true\n"},
        {"plugin_files": True},
    ],
)
def test_a_locked_plugin_stays_off_also_as_a_file(plugins, tmp_path: Path, changes: dict[str, object]) -> None:  # type: ignore[no-untyped-def]
    put(tmp_path / "user/img/plugins.d/99.toml", 'enabled = ["exporter:list"]\n')
    if changes.pop("plugin_files", False):
        changes["plugin_files"] = [str(put(tmp_path / "exporter-list.py", exporter(tmp_path / "imported")))]
    with pytest.raises(PluginError, match="switched off by"):
        plugins(toggles=LOCKED, **changes).driver("exporter", "list")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("text", ["[plugins]\nfiles = 1\n", "[plugins]\nfile = false\n", "plugins = false\n"])
def test_a_mistake_about_it_is_told(plugins, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        UsageError, match=r"`plugins` in .*/admin/config\.toml must be a table with the keys `files` and `executables`"
    ):
        plugins(admin=text)


def test_a_file_of_somebody_else_is_not_run(plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 54321)
    with pytest.raises(PluginError, match="belongs to somebody else"):
        plugins().driver("exporter", "list")
    assert not (tmp_path / "imported").exists()
