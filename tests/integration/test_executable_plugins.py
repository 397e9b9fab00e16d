"""Plugins that are programs on PATH: found by name, never by chance; switched off they do not run; what they do wrong is one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.host import need
from harness.img import Img, write_context
from img_core.api._credentials import Accounts
from img_core.config import Config
from img_core.plugins import Plugins
from img_core.spec.errors import PluginError, UsageError
from img_core.spec.values import Credentials

pytestmark = pytest.mark.rootless

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/harness/executables"
DESCRIBE = """[ "$1" = describe ] && { echo '{"result": {}}'; exit 0; }\n"""
Put = Callable[..., Img]


def put(path: Path, body: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


@pytest.fixture(autouse=True)
def jq() -> None:
    need("jq", "flock")  # of the samples


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A directory on the PATH of `img`."""
    directory = tmp_path / "programs"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def img(img: Img, bin_directory: Path) -> Img:
    return img.with_environment(PATH=f"{bin_directory}:{os.environ['PATH']}")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", "FROM scratch\nCOPY file /\n", {"file": "x"})


def rows(img: Img, *flags: str) -> dict[tuple[str, str], dict[str, str]]:
    done = img.run(*flags, "plugins", "ls", "--format", "json").ok()
    return {(row["kind"], row["name"]): row for row in map(json.loads, done.text.splitlines())}


def test_the_example_is_found_by_its_name(img: Img, bin_directory: Path, context: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "contrib/executables/img-exporter-gnutar", bin_directory)
    path = str(bin_directory / "img-exporter-gnutar")
    found = rows(img)["exporter", "gnutar"]
    assert (found["status"], found["module"], found["distribution"]) == ("ok", path, path)
    assert "format of the archive" in img.run("plugins", "info", "exporter:gnutar").ok().text
    out = tmp_path / "out.tar"
    done = img.build(context, "--progress=plain", "-o", f"type=gnutar,dest={out},format=v7", tag="").ok()
    assert "writing an archive in the format v7" in done.stderr
    assert b"file" in out.read_bytes()[:100]
    img.build(context, "-o", f"type=gnutar,dest={out},format=x", tag="").refused(2, "`format`")
    img.build(context, "-o", f"type=gnutar,dset={out}", tag="").refused(2, "unknown option `dset` for type=gnutar")
    img.build(context, "-o", "type=gnutar", tag="").refused(2, "dest")
    img.build(context, "-o", "type=gnutar,dest=-", tag="").refused(2, "needs the name of a file")
    img.build(context, "-o", "type=gnuter,dest=x", tag="").refused(2, "no exporter is named `gnuter`")
    img.run("plugins", "check", "exporter:gnutar", "-k", "accepts or cancel").ok()
    (img.home / ".config/img").mkdir(parents=True)
    (img.home / ".config/img/config.toml").write_text('[exporter.gnutar]\nformat = "gnu"\n')
    img.build(context, "-o", f"type=gnutar,dest={out}", tag="").ok()


def witness(bin_directory: Path, tmp_path: Path, name: str = "img-exporter-list") -> Path:
    """Put a program that leaves a file when it runs; return the file."""
    put(bin_directory / name, f"touch {tmp_path}/ran\n{DESCRIBE}")
    return tmp_path / "ran"


def test_nobody_runs_what_nobody_named(img: Img, bin_directory: Path, context: Path, tmp_path: Path) -> None:
    for name in (
        "img-exporter-list",
        "img-source-list",
        "img-credentials-list",
        "img-listener-list",
        "img-exporter-tar",
    ):
        ran = witness(bin_directory, tmp_path, name)
    img.run("ls").ok()
    img.run("--help").ok()
    img.build(context, "-o", f"type=tar,dest={tmp_path}/out.tar").ok()
    assert not ran.exists()
    assert (tmp_path / "out.tar").stat().st_size > 1000  # of the exporter that is installed: no program takes its place


def test_no_path_is_read_before_something_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[str] = []
    (tmp_path / "bin").mkdir()
    listdir = os.listdir

    def watched(path: Any = ".") -> list[Any]:
        read.append(str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", watched)
    plugins = Plugins(Config.load(environment={"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}))
    plugins.names("exporter")
    plugins.driver("exporter", "tar")
    with pytest.raises(PluginError):
        plugins.driver("exporter", "none")
    plugins.listeners()
    assert str(tmp_path / "bin") not in read
    plugins.inventory(check=False)
    assert str(tmp_path / "bin") in read


def test_nothing_of_a_context_is_run(img: Img, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM scratch\nCOPY . /\n")
    (tmp_path / "open").mkdir()
    for directory in (context, context / "programs", tmp_path / "open"):
        ran = witness(directory, tmp_path)
    (tmp_path / "open").chmod(0o1777)
    places = ["programs", ".", "", str(tmp_path / "open")]  # relative, or anybody's
    off = img.with_environment(PATH=":".join([*places, os.environ["PATH"], *places]))
    off.run("build", "-o", "type=list,dest=x", ".", cwd=context).refused(2, "no exporter is named `list`")
    off.run("build", "-t", "x", ".", cwd=context).ok()
    assert "exporter-list" not in off.run("plugins", "ls", cwd=context).ok().text
    assert not ran.exists()


@pytest.mark.parametrize("mode", [0o644, 0o757])
def test_a_file_that_is_no_program_or_anybodys_is_not_run(
    img: Img, bin_directory: Path, context: Path, tmp_path: Path, mode: int
) -> None:
    ran = witness(bin_directory, tmp_path)
    (bin_directory / "img-exporter-list").chmod(mode)
    img.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="").refused(2, "no exporter is named `list`")
    assert ("exporter", "list") not in rows(img)
    assert not ran.exists()


WAYS: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, str]]] = {
    "a flag": (("--no-plugin", "exporter:list"), {}, {}),
    "a flag for the kind": (("--no-plugin", "exporter:*"), {}, {}),
    "a variable": ((), {"IMG_DISABLED_PLUGINS": "exporter:list"}, {}),
    "the command": ((), {}, {}),
    "a file": ((), {}, {"plugins.d/10.toml": 'disabled = ["exporter:list"]\n'}),
    "a file for the kind": (
        (), {}, {"plugins.d/10.toml": 'disabled = ["exporter:*"]\nenabled = ["exporter:image"]\n'}
    ),
    "all programs": ((), {}, {"config.toml": "[plugins]\nexecutables = false\n"}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_one_that_is_switched_off_never_runs(
    img: Img, bin_directory: Path, context: Path, tmp_path: Path, way: str
) -> None:
    flags, variables, files = WAYS[way]
    ran = witness(bin_directory, tmp_path)
    for name, text in files.items():
        path = img.home / ".config/img" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if way == "the command":
        img.run("plugins", "disable", "exporter:list").ok()
    off = img.with_flags(*flags).with_environment(**variables)
    assert rows(off)["exporter", "list"]["status"] == "disabled"
    if way == "a variable":
        off.run("plugins", "info", "exporter:list").ok()
        off.run("plugins", "check", "exporter:list").refused(1, "is switched off by")
        off.run("doctor")
    off.build(context, "-o", f"type=list,dest={tmp_path}/out", tag="").refused(1, "exporter `list` is switched off by")
    assert not ran.exists()


# ---- what an administrator says

FORBIDDEN = "[plugins]\nexecutables = false\n"
LOCKED = 'disabled = ["exporter:list", "listener:*"]\nlocked = true\n'
LIFTING: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the user's configuration": {"user": "[plugins]\nexecutables = true\nfiles = true\n"},
    "the user's toggles": {"toggles": 'enabled = ["exporter:list", "listener:list"]\n'},
    "the user's order": {"user": '[order]\nlistener = ["list"]\n'},
    "a variable": {"environment": {"IMG_DISABLED_PLUGINS": ""}},
    "a file": {"plugin_files": True},
}


@pytest.mark.parametrize("lifting", LIFTING)
@pytest.mark.parametrize("saying", ["executables are forbidden", "the plugin is locked"])
def test_no_program_lifts_what_an_administrator_says(
    tmp_path: Path, bin_directory: Path, saying: str, lifting: str
) -> None:
    for name in ("img-exporter-list", "img-listener-list"):
        ran = witness(bin_directory, tmp_path, name)
    changes = dict(LIFTING[lifting])
    locked = saying == "the plugin is locked"
    texts = {
        "admin/config.toml": "" if locked else FORBIDDEN,
        "admin/plugins.d/10.toml": LOCKED if locked else "",
        "user/img/config.toml": changes.pop("user", ""),
        "user/img/plugins.d/99.toml": changes.pop("toggles", ""),
        "listener-other.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if changes.pop("plugin_files", False) and not locked:
        changes["plugin_files"] = [str(tmp_path / "listener-other.py")]
    environment = {
        "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user"), "PATH": str(bin_directory),
        **changes.pop("environment", {}),
    }  # fmt: skip
    plugins = Plugins(
        Config.load(
            environment=environment, admin_directory=str(tmp_path / "admin"), distro_directory="/none", **changes
        )
    )
    with pytest.raises(PluginError, match="exporter `list` is switched off by"):
        plugins.driver("exporter", "list")
    assert {info.status for info in plugins.inventory(check=True) if info.name == "list"} == {"disabled"}
    if "plugin_files" not in changes:
        plugins.listeners()
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["a program", "a file"])
def test_nothing_takes_the_place_of_a_plugin_that_is_locked(tmp_path: Path, bin_directory: Path, kind: str) -> None:
    ran = witness(bin_directory, tmp_path, "img-exporter-tar")
    files = {"admin/plugins.d/10.toml": 'disabled = ["exporter:tar"]\nlocked = true\n'}
    if kind == "a file":
        files[".config/img/plugins/exporter-tar.py"] = f"import os; os.mkdir({str(ran)!r})\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {"HOME": str(tmp_path), "PATH": str(bin_directory)}
    plugins = Plugins(Config.load(environment=environment, admin_directory=str(tmp_path / "admin")))
    with pytest.raises(PluginError, match="exporter `tar` is switched off by"):
        plugins.driver("exporter", "tar")
    assert {info.status for info in plugins.inventory() if info.name == "tar"} == {"disabled"}
    assert not ran.exists()


def test_a_mistake_about_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[plugins]\nexecutables = 0\n")
    with pytest.raises(UsageError, match="a table with the keys `files` and `executables`, which are true or false"):
        Config.load(environment={"HOME": str(tmp_path)}, admin_directory=str(tmp_path))


# ---- what they do wrong

HALF = f"""{DESCRIBE}output=$(jq -r .output); head -c 100000 /dev/zero > "$output"\n"""
WRONG = {
    "it is killed": (HALF + "kill -9 $$", "was ended by signal 9 (SIGKILL)"),
    "garbage": (HALF + "echo garbage", "says what is no message: `garbage`"),
    "no end": (HALF + "exec sleep 1000", "says nothing for 2 seconds"),
    "too much": (HALF + "exec yes", "says what is no message: `y`"),
    "it fails": (HALF + "echo oh no >&2; exit 7", "ended with status 7: oh no"),
    "no result": (HALF, "ended without a result"),
    "no description": ("exit 0", "ended without a result"),
    "a wrong description": ("""echo '{"result": {"options": 5}}'""", "describes `options` that are no object"),
    "another contract": ("""echo '{"result": {"api": [7, 8]}}'""", "needs version 7 to 8 of the exporter contract"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_one_does_wrong_is_a_line_and_leaves_nothing(
    img: Img, bin_directory: Path, context: Path, tmp_path: Path, what: str
) -> None:
    body, text = WRONG[what]
    path = put(bin_directory / "img-exporter-bad", body)
    out = tmp_path / "out"
    out.mkdir()
    done = img.with_environment(IMG_PLUGIN_SILENCE="2" if what == "no end" else "60").build(
        context, "-o", f"type=bad,dest={out}/file", tag=""
    )
    done.refused(1, f"plugin exporter:bad of {path} ", text)
    assert "hint: " in done.stderr
    assert list(out.iterdir()) == []


def test_what_it_calls_an_error_is_the_users_line(img: Img, bin_directory: Path, context: Path, tmp_path: Path) -> None:
    body = DESCRIBE + """echo '{"error": "the tape is full", "hint": "take another one"}'"""
    put(bin_directory / "img-exporter-tape", body)
    done = img.build(context, "-o", f"type=tape,dest={tmp_path}/out", tag="")
    done.refused(1, "exporter `tape`: the tape is full")
    assert "hint: take another one" in done.stderr
    assert not (tmp_path / "out").exists()


# ---- the other kinds


def test_an_address_finds_the_source_of_its_scheme(img: Img, bin_directory: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "img-source-shelf", bin_directory)
    shelf = tmp_path / "shelf"
    write_context(shelf / "app", "FROM scratch\nCOPY --from=more file /\n")
    write_context(shelf / "more", "", {"file": "from the shelf"})
    img = img.with_environment(SHELF=str(shelf))
    out = tmp_path / "out"
    words = ["build", "--build-context", "more=shelf://more", "-o", str(out), "shelf://app"]
    img.run(*words).ok()
    assert (out / "file").read_text() == "from the shelf"
    img.run("build", "shelf://none").refused(1, "source `shelf`: nothing on the shelf is called `none`")
    img.run("--no-plugin", "source:shelf", "build", "shelf://app").refused(1)
    img.run("build", "sehlf://app").refused(1)


def test_the_order_names_credential_stores(bin_directory: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "img-credentials-drawer", bin_directory)
    config = tmp_path / ".config/img/config.toml"
    config.parent.mkdir(parents=True)
    environment = {"HOME": str(tmp_path), "PATH": f"{bin_directory}:{os.environ['PATH']}"}
    notices: list[str] = []

    def names() -> list[str]:
        accounts = Accounts(Plugins(Config.load(environment=environment)), environment, notices.append)
        return [store.name for store in accounts.stores()]

    assert "drawer" not in names()
    config.write_text('[order]\ncredentials = ["drawer", "dockerconfig"]\n')
    assert names() == ["drawer", "dockerconfig"]
    accounts = Accounts(Plugins(Config.load(environment=environment)), environment, notices.append)
    next(accounts.stores()).store("a.example", Credentials("joe", "secret"))
    assert accounts.find("a.example") == Credentials("joe", "secret")
    put(bin_directory / "img-credentials-drawer", DESCRIBE + "echo my-secret >&2; exit 5")
    accounts = Accounts(Plugins(Config.load(environment=environment)), environment, notices.append)
    assert accounts.find("a.example") is None
    assert [notice.endswith("ended with status 5") for notice in notices] == [True]


def test_a_type_names_the_program_of_a_secret(img: Img, bin_directory: Path, tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "img-secret-shelf", bin_directory)
    (tmp_path / "token").write_text("s3cret")
    context = write_context(
        tmp_path / "context", "FROM busybox\nRUN --mount=type=secret,id=token cat /run/secrets/token\n"
    )
    flag = f"--secret=id=token,type=shelf,place={tmp_path}"
    assert "s3cret" in img.build(context, flag, "--progress=plain", "--no-cache").ok().stderr
    img.build(context, f"{flag},key=none").refused(1, f"secret `shelf`: there is no `{tmp_path}/none`")
    img.build(context, flag, "--no-plugin", "secret:shelf").refused(1, "secret `shelf` is switched off by --no-plugin")
    put(bin_directory / "img-secret-shelf", DESCRIBE + 'echo s3cret >&2; echo \'{"result": {"base64": "*"}}\'')
    done = img.build(context, "--secret=id=token,type=shelf", "--no-cache")
    done.refused(1, "plugin secret:shelf of ", "gives no secret in `base64`")
    assert "s3cret" not in done.stderr


def test_the_order_names_listeners(img: Img, bin_directory: Path, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", "FROM busybox\nRUN echo $NOTED > /noted\n")
    notes, out = tmp_path / "notes", tmp_path / "out"
    img = img.with_environment(NOTES=str(notes))
    shutil.copy(SAMPLES / "img-listener-note", bin_directory)
    img.build(context).ok()
    assert not notes.exists()
    config = img.home / ".config/img/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[order]\nlistener = ["note"]\n')
    img.build(context, "-o", str(out), tag="app:1").ok()
    assert (out / "noted").read_text() == "yes\n"
    told = [json.loads(line) for line in notes.read_text().splitlines()]
    calls = [item["call"] for item in told]
    assert calls[0] == "describe"
    assert calls[-1] == "img_build_finished"
    assert [call for call in calls if call not in ("img_step_finished", "img_layer_committed")] == [
        "describe", "img_source_wanted", "img_run_planned", "img_build_planned", "img_image_built", "img_exported",
        "img_exported", "img_build_finished",
    ]  # fmt: skip
    assert {item["img"] for item in told} == {1}
    assert b"https://example.org/noted/v1" in img.run("save", "--format", "oci", "app:1").ok().stdout
    refused = write_context(tmp_path / "refused", "FROM busybox\nRUN echo forbidden\n")
    img.build(refused).refused(1, "listener `note`: that is forbidden here")
    notes.unlink()
    img.build(refused, "--no-plugin", "listener:note").ok()
    assert not notes.exists()
    (bin_directory / "img-listener-note").unlink()
    img.build(refused).refused(2, "no listener is named `note`")  # it may be a policy
