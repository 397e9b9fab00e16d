"""``img login`` and ``img logout``: what is checked, what is kept, and what is said."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import time
from pathlib import Path

import pytest

from harness.containers import Containers, skopeo
from harness.img import Img, write_context
from img_core.spec.values import Platform
from img_core.testing.faulty_registry import Exchange, FaultyRegistry, challenge, reply
from img_core.testing.images import make_image, make_index
from img_core.testing.registry import PASSWORD, USER, Authority, DockerRegistry

pytest_plugins = ["img_core.testing.fixtures"]
pytestmark = pytest.mark.registry


@pytest.fixture
def empty(tmp_path: Path, authority: Authority) -> Img:
    """Give the command in an empty home, trusting the authority of the registries."""
    (tmp_path / "home").mkdir()
    return Img(tmp_path / "state", tmp_path / "home", (("SSL_CERT_FILE", str(authority.certificate)),))


def config(img: Img) -> dict[str, object]:
    return json.loads((img.home / ".docker/config.json").read_text())


def entry(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def log_in(img: Img, server: str, password: str = PASSWORD, *flags: str) -> object:
    return img.run("login", *flags, "-u", USER, "--password-stdin", server, stdin=password.encode() + b"\n")


def typed(img: Img, *arguments: str, answers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
    """Run the command on a terminal and type each answer when its prompt appears; return status and all that was shown."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child becomes the command
        command = img.command(*arguments)
        os.execve(command[0], command, img.environment())
    shown, pending, deadline = b"", list(answers), time.monotonic() + 60
    position = 0
    while time.monotonic() < deadline:
        if pending and pending[0][0] in shown[position:]:
            position = len(shown)
            os.write(terminal, pending.pop(0)[1] + b"\n")
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                data = os.read(terminal, 4096)
            except OSError:
                break
            if not data:
                break
            shown += data
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


# --- logging in -----------------------------------------------------------------------------------------------------------


def test_a_login_is_kept_as_docker_keeps_it_and_used(empty: Img, login_registry: DockerRegistry) -> None:
    done = log_in(empty, login_registry.address)
    assert done.ok().text == "Login succeeded.\n"  # type: ignore[attr-defined]
    path = empty.home / ".docker/config.json"
    assert config(empty) == {"auths": {login_registry.address: entry(USER, PASSWORD)}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert '\n\t"auths": {\n\t\t' in path.read_text()
    empty.run("pull", login_registry.add("app", "1", make_image())).ok()


def test_a_push_uses_the_login_and_copies_with_each_registrys_own(
    empty: Img, login_registry: DockerRegistry, registry: DockerRegistry
) -> None:
    log_in(empty, login_registry.address).ok()  # type: ignore[attr-defined]
    index = make_index([make_image(), make_image([{"arm": b"1"}], platform=Platform("linux", "arm64"))])
    source = login_registry.add("app", "1", index)
    empty.run("pull", "--platform", "linux/amd64", source).ok()
    for target in (f"{login_registry.address}/other:1", f"{registry.address}/copy:1"):
        empty.run("tag", source, target).ok()
        empty.run("push", target).ok()
    assert PASSWORD not in registry.log
    shown = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/copy:1")
    assert shown == index.content


def test_skopeo_uses_the_same_login(empty: Img, login_registry: DockerRegistry) -> None:
    log_in(empty, login_registry.address)
    login_registry.add("app", "1", make_image())
    skopeo("inspect", "--tls-verify=false", f"docker://{login_registry.address}/app:1", **empty.environment())


def test_a_wrong_password_is_refused_and_not_kept(empty: Img, login_registry: DockerRegistry) -> None:
    done = log_in(empty, login_registry.address, "wrong")
    done.refused(5, login_registry.address, USER)  # type: ignore[attr-defined]
    assert "hint: check the user name and the password" in done.stderr  # type: ignore[attr-defined]
    assert not (empty.home / ".docker").exists()
    assert PASSWORD not in done.stderr  # type: ignore[attr-defined]


def test_scheme_and_path_of_the_server_do_not_matter(empty: Img, login_registry: DockerRegistry) -> None:
    log_in(empty, f"https://{login_registry.address}/v2/")
    assert list(config(empty)["auths"]) == [login_registry.address]  # type: ignore[call-overload]


def test_password_on_the_command_line_is_warned_of(empty: Img, login_registry: DockerRegistry) -> None:
    done = empty.run("login", "-u", USER, "-p", PASSWORD, login_registry.address).ok()
    assert done.text == "Login succeeded.\n"
    assert "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n" in done.stderr


def test_a_registry_that_asks_nobody_is_told(empty: Img, registry: DockerRegistry) -> None:
    done = log_in(empty, registry.address, "whatever")
    assert done.ok().text == "Login succeeded.\n"  # type: ignore[attr-defined]
    assert "did not ask who you are" in done.stderr  # type: ignore[attr-defined]


def test_insecure_registry_flag_is_honoured(login_registry: DockerRegistry, tmp_path: Path) -> None:
    untrusting = Img(tmp_path / "state", tmp_path)
    log_in(untrusting, login_registry.address).refused(6, "certificate")  # type: ignore[attr-defined]
    log_in(untrusting, login_registry.address, PASSWORD, "--insecure-registry").ok()  # type: ignore[attr-defined]


def token_registry(registry: FaultyRegistry, password: str) -> None:
    """Let *registry* want tokens, which its token server gives for *password* only."""

    def token(exchange: Exchange) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
        right = exchange.request.headers.get("authorization") == wanted
        exchange.answer(200, b'{"token":"T","expires_in":300}') if right else exchange.answer(401)

    def api(exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == "Bearer T":
            exchange.serve()
        else:
            exchange.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{registry.url}/token",service="x"'})

    registry.rule("GET /token", token)
    registry.rule("/v2/", api)


def test_a_token_registry_keeps_the_password_and_not_the_token(empty: Img, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.add("app", "1", make_image())
    token_registry(faulty_registry, "right")
    log_in(empty, faulty_registry.address, "wrong").refused(5, "token server")  # type: ignore[attr-defined]
    log_in(empty, faulty_registry.address, "right").ok()  # type: ignore[attr-defined]
    assert config(empty) == {"auths": {faulty_registry.address: entry(USER, "right")}}
    empty.run("pull", f"{faulty_registry.address}/app:1").ok()


def test_an_identity_token_is_exchanged_and_kept_as_one(empty: Img, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("POST /token", reply(200, b'{"access_token":"T"}'))
    token_registry(faulty_registry, "unused")
    server = faulty_registry.address
    empty.run("login", "-u", "<token>", "--password-stdin", server, stdin=b"REFRESH").ok()
    assert config(empty)["auths"][server]["identitytoken"] == "REFRESH"  # type: ignore[index]
    posted = faulty_registry.asked("POST /token")[0]
    assert b"refresh_token=REFRESH" in posted.body
    assert "<token>" in empty.run("login", "--list").ok().text


def test_a_challenge_of_an_unknown_kind_is_one_line(empty: Img, faulty_registry: FaultyRegistry) -> None:
    faulty_registry.rule("/v2/", challenge('Digest realm="x"'))
    log_in(empty, faulty_registry.address).refused(5, "does not say how to log in")  # type: ignore[attr-defined]


# --- the command line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-u", "a", "-p", "b", "--password-stdin"], "--password and --password-stdin are mutually exclusive"),
        (["--password-stdin"], "must provide --username with --password-stdin"),
        (["-u", "a"], "cannot perform an interactive login from a non TTY device"),
        ([], "cannot perform an interactive login from a non TTY device"),
        (["a b"], "`a b` is not the name of a registry"),
    ],
)
def test_bad_command_lines(words: list[str], message: str, empty: Img) -> None:
    assert empty.run("login", *words).error == message or message in empty.run("login", *words).error


def test_prompts_on_a_terminal_show_no_password(empty: Img, login_registry: DockerRegistry) -> None:
    answers = [(b"Username: ", USER.encode()), (b"Password: ", PASSWORD.encode())]
    status, shown = typed(empty, "login", login_registry.address, answers=answers)
    assert status == 0, shown
    assert PASSWORD not in shown
    assert shown.endswith("Login succeeded.\r\n")
    status, shown = typed(
        empty,
        "login",
        login_registry.address,
        answers=[(f"Username ({USER}): ".encode(), b""), (b"Password: ", PASSWORD.encode())],
    )
    assert status == 0, shown


def test_an_empty_answer_is_refused(empty: Img) -> None:
    status, shown = typed(empty, "login", "127.0.0.1:1", answers=[(b"Username: ", b""), (b"Password: ", b"x")])
    assert status == 2
    assert "username cannot be empty" in shown


def test_docker_hub_has_a_welcome(empty: Img) -> None:
    status, shown = typed(empty, "login", answers=[(b"Username: ", b"joe"), (b"Password: ", b"")])
    assert shown.startswith("Login with your Docker ID to push and pull images from Docker Hub.")
    assert status == 2
    assert "password is required" in shown


def test_without_a_terminal_what_is_known_already_is_checked_again(empty: Img, login_registry: DockerRegistry) -> None:
    log_in(empty, login_registry.address).ok()  # type: ignore[attr-defined]
    assert empty.run("login", login_registry.address).ok().text == "Login succeeded.\n"
    path = empty.home / ".docker/config.json"
    path.write_text(json.dumps({"auths": {login_registry.address: entry(USER, "changed meanwhile")}}))
    empty.run("login", login_registry.address).refused(5, login_registry.address)


# --- logging out ------------------------------------------------------------------------------------------------------------


def test_logout_forgets(empty: Img, login_registry: DockerRegistry) -> None:
    server = login_registry.address
    log_in(empty, server)
    assert empty.run("login", "--list").ok().text.splitlines()[1].split() == [server, USER]
    assert empty.run("logout", server).ok().text == f"Removing login credentials for {server}\nLogout succeeded.\n"
    assert empty.run("logout", server).ok().text == f"Not logged in to {server}\n"
    assert config(empty) == {"auths": {}}


def test_logout_of_docker_hub_names_it_as_docker_does(empty: Img) -> None:
    assert empty.run("logout").ok().text == "Not logged in to https://index.docker.io/v1/\n"
    empty.run("logout", "a", "b").refused(2, "logout expects zero or one arguments, found 2")


def test_logins_go_to_the_file_of_podman_where_that_is_named(
    empty: Img, login_registry: DockerRegistry, containers: Containers
) -> None:
    chosen = empty.with_environment(REGISTRY_AUTH_FILE=str(empty.home / "auth.json"))
    log_in(chosen, login_registry.address).ok()  # type: ignore[attr-defined]
    assert not (empty.home / ".docker").exists()
    chosen.run("pull", login_registry.add("app", "1", make_image())).ok()
    name = containers.run(
        "podman", "login", "--authfile", empty.home / "auth.json", "--get-login", login_registry.address
    )
    assert name.strip() == USER
    assert json.loads(chosen.run("login", "--list", "--format", "json").text) == [
        {"Server": login_registry.address, "Username": USER}
    ]


def test_login_makes_no_state_directory(empty: Img, login_registry: DockerRegistry) -> None:
    log_in(empty, login_registry.address)
    assert not empty.state.exists()


@pytest.mark.rootless
def test_credential_helpers_run_as_the_user_also_in_a_build(
    empty: Img, login_registry: DockerRegistry, tmp_path: Path
) -> None:
    """A build is root in a namespace; what talks to the user's desktop must not be."""
    source = login_registry.add("base", "1", make_image([{"f": b"1"}]))
    helper = tmp_path / "bin/docker-credential-told"
    helper.parent.mkdir()
    answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nid -u > {tmp_path}/uid\ncat > /dev/null\necho '{answer}'\n")
    helper.chmod(0o755)
    (empty.home / ".docker").mkdir()
    (empty.home / ".docker/config.json").write_text(json.dumps({"credsStore": "told"}))
    context = write_context(tmp_path / "context", f"FROM {source}\nCOPY --from={source} /f /g\n")
    told = empty.with_environment(PATH=f"{helper.parent}:{os.environ['PATH']}")
    told.build(context).ok()
    assert (tmp_path / "uid").read_text().strip() == str(os.getuid())
