"""What the configuration files of registries mean, each in its own language."""

from __future__ import annotations

from pathlib import Path

import pytest

from img_core.net.trust import Trust
from img_core.spec.errors import UsageError
from img_registry_oci._config import Endpoint, HostsConfig, Rules


class Files:
    """A home and a root directory with configuration files."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.root = directory / "root"
        self.environment = {"HOME": str(self.home)}

    def write(self, path: str, text: str = "") -> Path:
        """Write a file, below the home if *path* starts with ``~``."""
        place = self.home / path[2:] if path.startswith("~/") else self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def rules(self, domain: str, repository: str = "app") -> Rules:
        return HostsConfig(self.environment, root=str(self.root)).rules(domain, repository)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_without_files_a_registry_is_itself(files: Files) -> None:
    assert files.rules("quay.io") == Rules(Endpoint("quay.io"))
    assert files.rules("docker.io") == Rules(Endpoint("registry-1.docker.io"))


def test_own_file_names_mirrors_and_insecure_hosts(files: Files) -> None:
    files.write(
        "~/.config/img/registries.toml",
        '[registry."docker.io"]\nmirrors = ["https://mirror.example/hub", "http://10.0.0.1:5000"]\n'
        '[registry."lan:5000"]\ninsecure = true\n',
    )
    rules = files.rules("docker.io", "library/busybox")
    assert rules.main == Endpoint("registry-1.docker.io")
    assert [(item.host, item.repository("library/busybox"), item.insecure) for item in rules.mirrors] == [
        ("mirror.example", "hub/library/busybox", False),
        ("10.0.0.1:5000", "library/busybox", True),
    ]
    assert files.rules("lan:5000").main.insecure
    assert not files.rules("lan").main.insecure


def test_the_users_file_comes_before_the_administrators(files: Files) -> None:
    files.write(
        "/etc/img/registries.toml", '[registry."a.example"]\nblocked = true\n[registry."b.example"]\nblocked = true\n'
    )
    path = files.write("~/.config/img/registries.toml", '[registry."a.example"]\n')
    assert files.rules("a.example").blocked == ""
    assert files.rules("b.example").blocked == str(files.root / "etc/img/registries.toml")
    path.write_text('[registry."*.example"]\nblocked = true\n')
    assert files.rules("c.example:5000").blocked == str(path)
    assert files.rules("example").blocked == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "unknown key `x`"),
        ('[registry."a"]\nmirror = []', "unknown key `mirror` for `a`"),
        ('[registry."a"]\ninsecure = "yes"', "`insecure` in"),
        ('[registry."a"]\nmirrors = "b"', "`mirrors` in"),
        ('[registry."a"]\nmirrors = ["ftp://b"]', "`ftp://b` in"),
        ('[registry."a"]\ntoken-servers = "b"', "`token-servers` in"),
        ("registry = 1", "`registry` in"),
        ("[", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_named(text: str, message: str, files: Files) -> None:
    path = files.write("~/.config/img/registries.toml", text)
    with pytest.raises(UsageError) as caught:
        files.rules("a")
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_certificates_are_collected(files: Files) -> None:
    own = files.write("~/.config/img/registries.toml", '[registry."a.example:5000"]\nca = "ca.pem"\n')
    docker = files.write("/etc/docker/certs.d/a.example:5000/x.crt")
    files.write("/etc/docker/certs.d/a.example:5000/client.cert")
    files.write("/etc/docker/certs.d/other/x.crt")
    podman = files.write("~/.config/containers/certs.d/a.example:5000/y.crt")
    client = str(docker.parent / "client")
    assert files.rules("a.example:5000").main.trust == Trust(
        (str(own.parent / "ca.pem"), str(podman), str(docker)), (f"{client}.cert", f"{client}.key")
    )


def test_registries_conf_of_podman(files: Files) -> None:
    files.write(
        "/etc/containers/registries.conf",
        """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "10.0.0.1:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "docker.io/library"
location = "internal.example/base"
[[registry]]
location = "bad.example"
blocked = true
""",
    )
    rules = files.rules("docker.io", "org/app")
    assert [(item.host, item.repository("org/app"), item.insecure, item.when) for item in rules.mirrors] == [
        ("10.0.0.1:5000", "hub/org/app", True, "all"),
        ("second.example", "org/app", False, "digest"),
    ]
    moved = files.rules("docker.io", "library/busybox").main
    assert (moved.host, moved.repository("library/busybox")) == ("internal.example", "base/busybox")
    assert files.rules("bad.example").blocked.endswith("registries.conf")


def test_the_users_registries_conf_replaces_and_directories_add(files: Files) -> None:
    files.write("/etc/containers/registries.conf", '[[registry]]\nlocation = "a"\nblocked = true\n')
    files.write("~/.config/containers/registries.conf", "")
    files.write("/etc/containers/registries.conf.d/1.conf", '[[registry]]\nlocation = "b"\nblocked = true\n')
    assert not files.rules("a").blocked
    assert files.rules("b").blocked
    other = files.write("~/other.conf", '[[registry]]\nlocation = "c"\nblocked = true\n')
    files.environment["CONTAINERS_REGISTRIES_CONF"] = str(other)
    assert files.rules("c").blocked
    assert not files.rules("b").blocked


def test_hosts_toml_of_containerd(files: Files) -> None:
    files.write(
        "/etc/containerd/certs.d/docker.io/hosts.toml",
        """
server = "https://registry-1.docker.io"
[host."https://mirror.example/v2/hub"]
capabilities = ["pull", "resolve"]
ca = "mirror.pem"
[host."http://10.0.0.1:5000"]
capabilities = ["pull"]
[host."https://push.example"]
capabilities = ["push"]
""",
    )
    rules = files.rules("docker.io", "library/busybox")
    first, second = rules.mirrors
    assert (first.host, first.repository("library/busybox"), first.when) == (
        "mirror.example",
        "hub/library/busybox",
        "all",
    )
    assert first.trust.authorities == (str(files.root / "etc/containerd/certs.d/docker.io/mirror.pem"),)
    assert (second.host, second.insecure, second.when) == ("10.0.0.1:5000", True, "digest")
    assert rules.main == Endpoint("registry-1.docker.io")
