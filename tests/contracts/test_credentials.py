import base64
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.spec.errors import CredentialsError
from img_core.spec.values import Credentials
from img_core.testing.contracts.credentials import CredentialStoreContract
from img_credentials_containers._store import ContainersStore
from img_credentials_dockerconfig._store import DockerConfigStore
from img_lib_credentials import _helper, keys_of

JOE = Credentials("joe", "pw")


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


class TestDockerConfig(CredentialStoreContract):
    store_class = DockerConfigStore


class TestContainers(CredentialStoreContract):
    store_class = ContainersStore


class TestContainersAuthFile(CredentialStoreContract):
    store_class = ContainersStore

    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "home").mkdir()
        return {"HOME": str(tmp_path / "home"), "REGISTRY_AUTH_FILE": str(tmp_path / "home" / "auth.json")}


def test_containers_take_new_logins_only_where_the_user_says_so(tmp_path: Path) -> None:
    assert not ContainersStore({"HOME": str(tmp_path)}).takes("registry.example")
    assert ContainersStore({"REGISTRY_AUTH_FILE": str(tmp_path / "a")}).takes("registry.example")


def test_containers_write_docker_hub_as_podman_does(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    ContainersStore({"REGISTRY_AUTH_FILE": str(path)}).store("docker.io", JOE)
    assert list(json.loads(path.read_text())["auths"]) == ["docker.io"]


def test_containers_ask_the_runtime_directory_first(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    for directory, user in (("run/containers", "here"), (".config/containers", "there")):
        (tmp_path / directory).mkdir(parents=True)
        document = {"auths": {"a.example": auth(f"{user}:pw"), f"{user}.example": auth(f"{user}:pw")}}
        (tmp_path / directory / "auth.json").write_text(json.dumps(document))
    store = ContainersStore(environment)
    assert store.list() == {"a.example": "here", "here.example": "here", "there.example": "there"}
    assert store.get("a.example") == Credentials("here", "pw")
    assert store.erase("a.example")
    assert store.get("a.example") is None


HELPER = """#!{python} -I
import json, os, sys
path = os.environ["HELPER_DATA"]
data = json.load(open(path)) if os.path.exists(path) else {{}}
verb, text = sys.argv[1], sys.stdin.read()
if verb == "get":
    if text not in data:
        print("credentials not found in native keychain"); sys.exit(1)
    print(json.dumps({{"ServerURL": text, "Username": data[text][0], "Secret": data[text][1]}}))
elif verb == "store":
    entry = json.loads(text)
    data[entry["ServerURL"]] = [entry["Username"], entry["Secret"]]
elif verb == "erase":
    data.pop(text, None)
elif verb == "list":
    print(json.dumps({{key: value[0] for key, value in data.items()}}))
with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
    json.dump(data, file)
"""


def install_helper(directory: Path, name: str, text: str) -> None:
    directory.mkdir(exist_ok=True)
    program = directory / f"docker-credential-{name}"
    program.write_text(text.format(python=os.path.realpath(sys.executable)) if text is HELPER else text)
    program.chmod(0o755)


def write_config(environment: dict[str, str], document: Any) -> Path:
    directory = Path(environment["HOME"]) / ".docker"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(0o600)
    return path


class TestDockerConfigWithHelper(CredentialStoreContract):
    store_class = DockerConfigStore

    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        home = tmp_path / "home"
        home.mkdir()
        install_helper(tmp_path / "bin", "drawer", HELPER)
        environment = {
            "HOME": str(home),
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "HELPER_DATA": str(home / "drawer"),
        }
        write_config(environment, {"credsStore": "drawer"})
        return environment

    def test_file_holds_no_secret(self, store: DockerConfigStore, environment: dict[str, str]) -> None:  # type: ignore[override]
        store.store("registry.example", JOE)
        document = json.loads((Path(environment["HOME"]) / ".docker" / "config.json").read_text())
        assert document == {"credsStore": "drawer", "auths": {"registry.example": {}}}

    def test_logins_at_the_same_time_are_all_kept(self, store: Any, environment: dict[str, str]) -> None:
        """The lock of the file covers the helper, which has none."""
        super().test_logins_at_the_same_time_are_all_kept(store, environment)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HELPER_DATA": str(tmp_path / "drawer")}


@pytest.fixture
def store(environment: dict[str, str]) -> DockerConfigStore:
    return DockerConfigStore(environment)


def test_what_docker_wrote_is_understood(store: DockerConfigStore, environment: dict[str, str]) -> None:
    auths = {
        "https://index.docker.io/v1/": auth("joe:pw"),
        "https://old.example/v1/": auth("old:pw:with:colons"),
        "quay.io": {**auth("robot:"), "identitytoken": "T"},
        "plain.example": {"username": "u", "password": "p"},
        "padded.example": auth("u:p\0\0"),
        "bearer.example": {"registrytoken": "B"},
        "empty.example": {},
        "blank.example": {"auth": ""},
    }
    write_config(environment, {"auths": auths, "HttpHeaders": {"a": "b"}})
    assert store.get("docker.io", "library/x") == JOE
    assert store.get("old.example") == Credentials("old", "pw:with:colons")
    assert store.get("quay.io") == Credentials("robot", "", "T")
    assert store.get("plain.example") == Credentials("u", "p")
    assert store.get("padded.example") == Credentials("u", "p")
    assert store.get("bearer.example") == Credentials(registry_token="B")
    assert store.get("empty.example") is None
    assert store.get("blank.example") is None
    assert dict(store.list()) == {
        "docker.io": "joe",
        "old.example": "old",
        "quay.io": "robot",
        "plain.example": "u",
        "padded.example": "u",
        "bearer.example": "",
    }


@pytest.mark.parametrize(
    "key",
    ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io", "https://index.docker.io/v2/"],
)
def test_every_old_name_of_docker_hub_counts_and_goes(
    key: str, store: DockerConfigStore, environment: dict[str, str]
) -> None:
    path = write_config(environment, {"auths": {key: auth("joe:pw")}})
    assert store.get("docker.io") == JOE
    store.store("docker.io", JOE)
    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert store.erase("docker.io")
    assert json.loads(path.read_text()) == {"auths": {}}


def test_namespace_entry_speaks_for_its_repositories_only(
    store: DockerConfigStore, environment: dict[str, str]
) -> None:
    auths = {"h.example": auth("all:1"), "h.example/team": auth("team:2"), "h.example/team/app": auth("app:3")}
    path = write_config(environment, {"auths": auths})
    assert store.get("h.example", "team/app") == Credentials("app", "3")
    assert store.get("h.example", "team/other") == Credentials("team", "2")
    assert store.get("h.example", "teammate/x") == Credentials("all", "1")
    assert store.get("h.example") == Credentials("all", "1")
    assert store.erase("h.example")
    assert set(json.loads(path.read_text())["auths"]) == {"h.example/team", "h.example/team/app"}


def test_unknown_content_of_the_file_is_kept(store: DockerConfigStore, environment: dict[str, str]) -> None:
    path = write_config(
        environment, {"proxies": {"x": 1}, "auths": {"a.example": {**auth("a:b"), "email": "e"}}, "é": [1]}
    )
    path.chmod(0o644)
    store.store("b.example", JOE)
    document = json.loads(path.read_text())
    assert list(document) == ["proxies", "auths", "é"]
    assert document["auths"] == {"a.example": {**auth("a:b"), "email": "e"}, "b.example": auth("joe:pw")}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert '\n\t"auths": {\n\t\t"a.example"' in path.read_text()


def test_link_to_the_file_stays_a_link(store: DockerConfigStore, environment: dict[str, str], tmp_path: Path) -> None:
    path = write_config(environment, {})
    real = tmp_path / "dotfiles.json"
    path.rename(real)
    path.symlink_to(real)
    store.store("a.example", JOE)
    assert path.is_symlink()
    assert store.get("a.example") == JOE


def test_docker_config_names_the_directory(environment: dict[str, str], tmp_path: Path) -> None:
    write_config(environment, {"auths": {"a.example": auth("home:pw")}})
    store = DockerConfigStore({**environment, "DOCKER_CONFIG": str(tmp_path / "other")})
    assert store.get("a.example") is None
    store.store("b.example", JOE)
    assert (tmp_path / "other" / "config.json").exists()


def test_file_of_old_is_read_where_there_is_no_new_one(store: DockerConfigStore, tmp_path: Path) -> None:
    (tmp_path / ".dockercfg").write_text(json.dumps({"a.example": auth("joe:pw")}))
    assert store.get("a.example") == JOE


def test_no_home_means_no_credentials() -> None:
    store = DockerConfigStore({})
    assert store.get("a.example") is None
    with pytest.raises(CredentialsError, match="because `HOME` is not set"):
        store.store("a.example", JOE)


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"auths":{},"auths":{}}', "appears twice"),
        ({"auths": []}, None),
        ({"auths": ["a.example"]}, "`auths` is not an object"),
        ({"auths": {"a.example": "x"}}, "the entry of `a.example` is not an object"),
        ({"auths": {"a.example": {"auth": "!!"}}}, "the `auth` of `a.example` is not the Base64 form"),
        ({"auths": {"a.example": {"auth": 1}}}, "the `auth` of `a.example` is not the Base64 form"),
        ({"auths": {"a.example": auth("nocolon")}}, "the `auth` of `a.example` is not the Base64 form"),
        ({"auths": {"a.example": {"username": 1, "password": "x"}}}, "something else than texts"),
        ({"credHelpers": ["x"]}, "`credHelpers` is not an object of texts"),
        ({"credHelpers": {"a.example": 1}}, "`credHelpers` is not an object of texts"),
        ({"credsStore": 1}, "`credsStore` is not a text"),
        ({"credsStore": "../x"}, "is not the name of a credential helper"),
        ({"credsStore": "nothere"}, "`docker-credential-nothere` named in"),
    ],
)
def test_broken_file_is_an_error_and_never_silence(
    document: Any, fault: str | None, store: DockerConfigStore, environment: dict[str, str]
) -> None:
    path = write_config(environment, document)
    before = path.read_text()
    if fault is None:
        assert store.get("a.example") is None
        return
    with pytest.raises(CredentialsError, match=fault) as caught:
        store.get("a.example")
    assert str(path) in caught.value.message
    with pytest.raises(CredentialsError):
        store.list()
    assert path.read_text() == before


def test_login_never_overwrites_a_broken_file(store: DockerConfigStore, environment: dict[str, str]) -> None:
    path = write_config(environment, '{"auths": {"precious"')
    with pytest.raises(CredentialsError):
        store.store("a.example", JOE)
    assert path.read_text() == '{"auths": {"precious"'


def test_fifo_in_place_of_the_file_does_not_hang(
    store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".docker").mkdir()
    os.mkfifo(tmp_path / ".docker" / "config.json")
    with pytest.raises(CredentialsError, match="is not a regular file"):
        store.get("a.example")


def test_colon_in_a_user_name_is_refused(store: DockerConfigStore) -> None:
    with pytest.raises(CredentialsError, match="cannot contain a colon"):
        store.store("a.example", Credentials("a:b", "c"))


# --- helpers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("programs", "used"),
    [
        (["docker-credential-secretservice"], "secretservice"),
        (["docker-credential-secretservice", "docker-credential-pass"], "secretservice"),
        (["docker-credential-secretservice", "docker-credential-pass", "pass"], "pass"),
        (["docker-credential-secretservice", "pass"], None),
        (["docker-credential-drawer"], None),
    ],
)
def test_helper_that_is_there_is_used_until_the_file_says_something(
    programs: list[str], used: str | None, store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PATH"] = str(tmp_path / "bin")
    for program in programs:
        if program == "pass":
            (tmp_path / "bin/pass").symlink_to("/bin/true")
        else:
            install_helper(tmp_path / "bin", program.removeprefix("docker-credential-"), HELPER)
    write_config(environment, {"psFormat": "x"})
    store.store("a.example", JOE)
    document = json.loads((tmp_path / ".docker/config.json").read_text())
    assert document.get("credsStore") == used
    assert document["auths"]["a.example"] == ({} if used else auth("joe:pw"))
    assert store.get("a.example") == JOE
    assert store.erase("a.example")


@pytest.mark.parametrize("document", [{"auths": {"b.example": {}}}, {"credHelpers": {"b.example": "drawer"}}])
def test_helper_that_nobody_chose_is_not_asked_once_the_file_says_something(
    document: dict[str, Any], store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    install_helper(tmp_path / "bin", "secretservice", HELPER)
    Path(environment["HELPER_DATA"]).write_text(json.dumps({"a.example": ["joe", "pw"]}))
    write_config(environment, document)
    assert store.get("a.example") is None


def test_helper_that_nobody_chose_and_that_does_not_work_stands_in_nobodys_way(
    store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    install_helper(tmp_path / "bin", "secretservice", "#!/bin/sh\necho no desktop here; exit 1\n")
    assert store.get("a.example") is None
    assert store.list() == {}
    assert not store.erase("a.example")
    with pytest.raises(CredentialsError, match="no desktop here"):
        store.store("a.example", JOE)


def test_helper_of_a_server_comes_before_all_others(
    store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    install_helper(tmp_path / "bin", "drawer", HELPER)
    Path(environment["HELPER_DATA"]).write_text(json.dumps({"h.example": ["<token>", "T"]}))
    document = {
        "auths": {"h.example": auth("file:pw"), "b.example": auth("file:pw")},
        "credHelpers": {"h.example": "drawer"},
    }
    write_config(environment, document)
    assert store.get("h.example") == Credentials(identity_token="T")
    assert store.get("b.example") == Credentials("file", "pw")


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("#!/bin/sh\necho nonsense", "gave no valid answer"),
        ("#!/bin/sh\necho '[]'", "gave no valid answer"),
        ("#!/bin/sh\necho '{}'", "gave no user name or no secret"),
        ('#!/bin/sh\necho \'{"Username":1,"Secret":2}\'', "gave no user name or no secret"),
        ("#!/bin/sh\nprintf 'locked \\033[31m'; exit 3", r"failed with status 3: locked \\x1b\[31m"),
        ("#!/nonexistent/interpreter\n", "cannot run"),
        ("#!/bin/sh\nexec sleep 20", "gave no answer in"),
    ],
)
def test_helper_that_fails_is_an_error_and_nobody_else_is_asked(
    program: str,
    fault: str,
    store: DockerConfigStore,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_helper, "_SECONDS", 0.3)
    install_helper(tmp_path / "bin", "bad", program)
    write_config(environment, {"credsStore": "bad", "auths": {"h.example": auth("other:canary")}})
    with pytest.raises(CredentialsError, match=fault) as caught:
        store.get("h.example")
    assert caught.value.message.isprintable()


def test_helper_that_knows_nothing_means_anonymous(
    store: DockerConfigStore, environment: dict[str, str], tmp_path: Path
) -> None:
    install_helper(tmp_path / "bin", "drawer", HELPER)
    write_config(environment, {"credsStore": "drawer", "auths": {"h.example": {}}})
    assert store.get("h.example") is None


_hosts = st.sampled_from(["a.example", "a.example:5000", "b.example", "docker.io", "index.docker.io"])
_paths = st.sampled_from(["", "/", "/v1/", "/v2", "/team", "/team/app", "/v1/team"])
_schemes = st.sampled_from(["", "https://", "http://"])


@given(
    st.lists(st.tuples(_schemes, _hosts, _paths).map("".join), unique=True),
    _hosts,
    st.sampled_from(["", "team", "team/app", "x"]),
)
def test_keys_of_other_hosts_are_never_chosen(keys: list[str], server: str, repository: str) -> None:
    hub = {"docker.io", "index.docker.io"}
    for key in keys_of(keys, server, repository):
        host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
        assert host == server or {host, server} <= hub
