"""git over ssh with a real sshd: whose keys, agent and configuration serve what the user named, and what a Dockerfile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.git import Repository
from harness.host import need
from harness.img import Finished, Img, write_context
from harness.ssh import SshServer, ssh_server

pytestmark = pytest.mark.rootless


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    need("git")
    with ssh_server(tmp_path / "ssh") as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "served").mkdir()
    made = Repository(tmp_path / "served", "r.git", tmp_path / "work")
    made.write({"Dockerfile": "FROM scratch\nCOPY file /file\n", "file": "private"}).commit()
    return made


@pytest.fixture
def img(new_state, server: SshServer) -> Img:  # type: ignore[no-untyped-def]
    """The user of that ssh; no agent is running."""
    made: Img = new_state(seeded=False)
    return made.with_environment(PATH=f"{server.programs}:{made.environment()['PATH']}", SSH_AUTH_SOCK="")


def add(img: Img, directory: Path, address: str, *arguments: str) -> Finished:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    write_context(context, f"FROM scratch\nADD {address} /g/\n")
    return img.run("build", "-o", f"type=tar,dest={directory / 'out.tar'}", *arguments, context)


@pytest.mark.parametrize("form", ["url", "url-plus", "host-and-path", "alias"])
def test_without_leave_a_dockerfile_starts_no_ssh(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository, form: str
) -> None:
    address = {
        "url": f"{server.url}{repository.bare}",
        "url-plus": f"git+{server.url}{repository.bare}",
        "host-and-path": f"git@127.0.0.1:{repository.bare}",
        "alias": f"ssh://alias{repository.bare}",
    }[form]
    refused = add(img, tmp_path, address).refused(5, "needs `--ssh default`")
    assert "hint: `--ssh default` gives it the keys of your agent" in refused.stderr
    assert server.calls() == []


def test_with_leave_the_given_key_serves_and_no_configuration(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository
) -> None:
    add(img, tmp_path, f"{server.url}{repository.bare}", "--ssh", f"default={server.accepted}").ok()
    assert server.logins() > 0
    assert not server.proxied.exists()


@pytest.mark.parametrize(
    "given",
    [
        ["--ssh", "default={other}"],
        ["--ssh", "another={accepted}"],
        ["--ssh", "default={other}", "--ssh", "x={accepted}"],
    ],
    ids=["another-key", "another-id", "both"],
)
def test_what_was_not_given_for_git_does_not_log_in(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository, given: list[str]
) -> None:
    words = [word.format(other=server.other, accepted=server.accepted) for word in given]
    assert add(img, tmp_path, f"{server.url}{repository.bare}", *words).returncode in (5, 6)
    assert server.logins() == 0
    assert not server.proxied.exists()


def test_with_leave_names_of_the_configuration_mean_nothing(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository
) -> None:
    refused = add(img, tmp_path, f"ssh://alias{repository.bare}", "--ssh", f"default={server.accepted}")
    refused.refused(6, "cannot read git repository `ssh://alias/")
    assert server.logins() == 0


@pytest.mark.parametrize("name", ["alias", "address"])
def test_the_main_context_is_named_by_the_user_and_gets_all_of_his_ssh(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository, name: str
) -> None:
    host = "ssh://alias" if name == "alias" else server.url
    img.run("build", "-o", f"type=tar,dest={tmp_path / 'out.tar'}", f"{host}{repository.bare}").ok()
    assert server.proxied.exists()


def test_a_named_context_needs_leave(img: Img, tmp_path: Path, server: SshServer, repository: Repository) -> None:
    context = tmp_path / "context"
    context.mkdir()
    write_context(context, "FROM scratch\nCOPY --from=named /file /file\n")
    named = ("build", "-t", "x", "--build-context", f"named={server.url}{repository.bare}")
    img.run(*named, context).refused(5, "needs `--ssh default`")
    img.run(*named, "--ssh", f"default={server.accepted}", context).ok()


@pytest.mark.parametrize("leave", [False, True])
def test_submodules_of_the_main_context_are_the_word_of_the_repository(
    img: Img, tmp_path: Path, server: SshServer, repository: Repository, leave: bool
) -> None:
    inner = Repository(tmp_path / "served", "inner.git", tmp_path / "inner-work")
    inner.write({"deep": "private, too"}).commit()
    repository.git("submodule", "--quiet", "add", str(inner.bare), "mod")
    repository.git("config", "-f", ".gitmodules", "submodule.mod.url", f"{server.url}{inner.bare}")
    repository.commit()
    given = ("--ssh", f"default={server.accepted}") if leave else ()
    built = img.run("build", "-t", "x", *given, f"{server.url}{repository.bare}")
    if leave:
        built.ok()
    else:
        built.refused(5, "a submodule of", "`--ssh default`")
