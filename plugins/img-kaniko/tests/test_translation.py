"""kaniko's command lines, as they stand in pipelines, and the ``img build`` that each becomes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from img_kaniko.flags import FLAGS, parse
from img_kaniko.registries import own_configuration, registries
from img_kaniko.translate import Build, build_of

from img_core.spec.errors import UsageError

R = "registry.example"
PLAIN = "--progress plain --no-cache"
PUSH = "--output type=image,push=true"
COMMIT = "0123456789" * 4
TWO_WEEKS = "mode=max,max-age=336h"


def translated(line: str, **environment: str) -> Build:
    return build_of(parse(shlex.split(line)), environment)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            f"--dockerfile=Dockerfile --context=/workspace --destination={R}/app:1",
            f"build --file /workspace/Dockerfile {PLAIN} --tag={R}/app:1 {PUSH} -- /workspace",
            id="readme",
        ),
        pytest.param(
            f"--context dir:///workspace/ -d {R}/app -d {R}/app:2 --verbosity debug",
            f"--debug build {PLAIN} --tag={R}/app --tag={R}/app:2 {PUSH} -- /workspace/",
            id="two-destinations",
        ),
        pytest.param(
            f"-f=Dockerfile.ext -c=. -d={R}/app",
            f"build --file ./Dockerfile.ext {PLAIN} --tag={R}/app {PUSH} -- .",
            id="letters",
        ),
        pytest.param(
            f"-fDockerfile.ext -c. -d{R}/app",
            f"build --file ./Dockerfile.ext {PLAIN} --tag={R}/app {PUSH} -- .",
            id="letters-joined",
        ),
        pytest.param(f"-d {R}/app", f"build {PLAIN} --tag={R}/app {PUSH} -- /workspace/", id="defaults"),
        pytest.param(
            f"--context $CI --context-sub-path sub --dockerfile D -d {R}/a --build-arg A=1 --build-arg B --label x=y --target t",
            f"build --file '$CI/sub/D' --progress plain --build-arg=A=1 --build-arg=B --label=x=y --target t --no-cache "
            f"--tag={R}/a {PUSH} -- '$CI/sub'",
            id="gitlab",
        ),
        pytest.param(
            "--context . --no-push",
            f"build {PLAIN} --output type=image -- .",
            id="no-push",
        ),
        pytest.param(
            f"--context . --no-push --tar-path image.tar -d {R}/app:1",
            f"build {PLAIN} --tag={R}/app:1 --output type=image --output type=docker,dest=image.tar -- .",
            id="tar-path",
        ),
        pytest.param(
            f"--context . --no-push --tarPath=image.tar -d {R}/app:1 --customPlatform=linux/arm64",
            f"build --progress plain --platform linux/arm64 --no-cache --tag={R}/app:1 --output type=image "
            "--output type=docker,dest=image.tar -- .",
            id="old-names",
        ),
        pytest.param(
            f"--context . -d {R}/app --oci-layout-path out",
            f"build {PLAIN} --tag={R}/app {PUSH} --output type=oci,dest=out,tar=false -- .",
            id="layout",
        ),
        pytest.param(
            f"--context . -d {R}/app --insecure --skip-tls-verify --insecure-pull",
            f"build --progress plain --insecure-registry --no-cache --tag={R}/app {PUSH},registry.insecure=true -- .",
            id="insecure",
        ),
        pytest.param(
            f"--context . -d {R}/app --reproducible",
            f"build {PLAIN} --tag={R}/app --output type=image,rewrite-timestamp=true,push=true -- .",
            id="reproducible",
        ),
        pytest.param(
            f"--context . -d {R}/team/app:1 --cache=true",
            f"build --progress plain --cache-from type=registry,ref={R}/team/app/cache "
            f"--cache-to type=registry,ref={R}/team/app/cache,{TWO_WEEKS} --tag={R}/team/app:1 {PUSH} -- .",
            id="cache",
        ),
        pytest.param(
            f"--context . -d {R}/app --cache --cache-repo {R}/cache --cache-ttl 24h --no-push-cache",
            f"build --progress plain --cache-from type=registry,ref={R}/cache --tag={R}/app {PUSH} -- .",
            id="cache-repo-read-only",
        ),
        pytest.param(
            f"--context . -d {R}/app --cache --cache-repo=oci:/cache --cache-ttl=6h",
            "build --progress plain --cache-from type=local,src=/cache "
            f"--cache-to type=local,dest=/cache,mode=max,max-age=6h --tag={R}/app {PUSH} -- .",
            id="cache-directory",
        ),
        pytest.param(
            f"--context . -d {R}/app --cache=false --snapshot-mode=redo --use-new-run --cleanup --push-retry=3 --skip-unused-stages",
            f"build {PLAIN} --tag={R}/app {PUSH} -- .",
            id="without-meaning",
        ),
        pytest.param(
            f"--context . -d {R}/app --single-snapshot=false", f"build {PLAIN} --tag={R}/app {PUSH} -- .", id="off"
        ),
        pytest.param(
            f"--context=git://git.example/acme/app.git#refs/heads/main -d {R}/app",
            f"build {PLAIN} --tag={R}/app {PUSH} -- "
            "'https://git.example/acme/app.git?keep-git-dir=true&submodules=false&ref=refs/heads/main'",
            id="git",
        ),
        pytest.param(
            f"--context=git://git.example/acme/app#refs/heads/main#{COMMIT} --context-sub-path=a/b -d {R}/app",
            f"build {PLAIN} --tag={R}/app {PUSH} -- 'https://git.example/acme/app.git?keep-git-dir=true&submodules=false"
            f"&ref={COMMIT}&subdir=a/b'",
            id="git-commit",
        ),
        pytest.param(
            f"--context=git://git.example/app.git --git branch=v1,single-branch=true,recurse-submodules=true -d {R}/app",
            f"build {PLAIN} --tag={R}/app {PUSH} -- 'https://git.example/app.git?keep-git-dir=true&submodules=true&ref=v1'",
            id="git-flag",
        ),
        pytest.param(
            f"--context tar://stdin -d {R}/app --verbosity=panic",
            f"build --progress quiet --no-cache --tag={R}/app {PUSH} -- -",
            id="stdin",
        ),
        pytest.param(
            f"--context https://files.example/context.tar.gz --context-sub-path a --dockerfile a/D -d {R}/app",
            f"build --file a/D {PLAIN} --tag={R}/app {PUSH} --context-subdir a -- https://files.example/context.tar.gz",
            id="archive-from-the-web",
        ),
    ],
)
def test_a_command_line(line: str, expected: str) -> None:
    assert list(translated(line).arguments) == shlex.split(expected)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--context .", "you must provide --destination, or use --no-push"),
        ("--context . --no-push --image-name-with-digest-file f", "you must provide --destination"),
        ("--context s3://bucket/x.tar.gz -d r.example/a", "a context in a bucket cannot be read"),
        ("--context ftp://x -d r.example/a", "unknown form of a context"),
        ("--bucket b -d r.example/a", "`--bucket` is not supported"),
        ("-d r.example/a --single-snapshot", "`--single-snapshot` is not supported"),
        ("-d r.example/a --snapshot-mode x", "x is not a valid snapshot mode"),
        ("-d r.example/a --cache=maybe", "`--cache` is true or false"),
        ("-d r.example/a --cache --cache-ttl soon", "`--cache-ttl` is a duration"),
        ("--no-push --cache", "`--cache` needs to know where"),
        ("-d r.example/a --verbosity loud", "unknown level of `--verbosity`"),
        ("-d r.example/a --git depth=1", "unknown word of `--git`"),
        (
            "-d r.example/a --context git://h/r --git insecure-skip-tls=true",
            "`--git insecure-skip-tls` is not supported",
        ),
        ("-d", "flag needs an argument: -d"),
        ("-d r.example/a --destinaton x", "unknown flag: --destinaton"),
        ("-d r.example/a -x", "unknown flag: -x"),
        ("-d r.example/a build", "unexpected argument `build`"),
        ("-d r.example/A:b", "must be lowercase"),
    ],
)
def test_what_cannot_be_is_one_line(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        translated(line)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_every_flag_is_honoured_noted_or_refused() -> None:
    """A flag that is neither noted nor refused is read somewhere."""
    package = Path(__file__).parent.parent / "img_kaniko"
    code = "".join(path.read_text() for path in package.glob("*.py") if path.name != "flags.py")
    for flag in FLAGS:
        assert flag.note or flag.refusal or flag.same_as or f'"{flag.name}"' in code, flag.name


def test_what_means_nothing_is_said_once_each() -> None:
    given = parse(shlex.split("--no-push --cleanup --ignore-path /a --ignore-path /b --use-new-run=false"))
    assert [note.split(" ")[0] for note in given.notes] == ["`--cleanup`", "`--ignore-path`"]


def test_base_images_come_from_the_directory_of_the_cache(tmp_path: Path) -> None:
    name = "IMG_SOURCE_DOCKER_IMAGE_LAYOUTS"
    line = f"--context . -d {R}/app --cache-dir "
    assert translated(line + str(tmp_path)).environment[name] == str(tmp_path)
    assert name not in translated(f"{line}{tmp_path}/nowhere").environment
    given = parse(shlex.split(f"--no-push --cache-dir {tmp_path}"))
    (tmp_path / f"sha256:{'0' * 64}").touch()
    assert build_of(given, {}).environment[name] == str(tmp_path)
    assert "what kaniko's warmer wrote cannot be read" in given.notes[0]


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({"GIT_TOKEN": "t"}, "Basic dDo="),
        ({"GIT_USERNAME": "u", "GIT_PASSWORD": "p"}, "Basic dTpw"),
        ({"GIT_USERNAME": "u", "GIT_PASSWORD": "p", "GIT_TOKEN": "t"}, "Basic dDo="),
    ],
)
def test_the_login_of_git_is_no_argument(environment: dict[str, str], header: str) -> None:
    build = translated("--context git://h.example/r -d r.example/a", **environment)
    assert build.environment["IMG_KANIKO_GIT_AUTH"] == header
    assert header not in " ".join(build.arguments)
    assert "id=GIT_AUTH_HEADER,env=IMG_KANIKO_GIT_AUTH" in build.arguments


def test_registries_become_a_configuration_beside_what_is_there(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    (usual / "img").mkdir(parents=True)
    (usual / "img" / "config.toml").write_text("")
    (usual / "containers").mkdir()
    line = (
        "--registry-mirror m.example/hub --insecure-registry a.example:5000 --skip-tls-verify-registry b.example "
        "--registry-certificate c.example=/c.pem --registry-client-cert c.example=/c.cert,/c.key"
    )
    tables = registries(parse(shlex.split(line)), {"KANIKO_REGISTRY_MIRROR": "n.example"})
    assert tables == {
        "docker.io": {"mirrors": ["https://m.example/hub", "https://n.example"]},
        "a.example:5000": {"insecure": True},
        "b.example": {"insecure": True},
        "c.example": {"ca": "/c.pem", "client-cert": "/c.cert", "client-key": "/c.key"},
    }
    made = own_configuration(tables, str(tmp_path / "scratch"), {"XDG_CONFIG_HOME": str(usual)})
    own = Path(made["XDG_CONFIG_HOME"])
    assert (own / "img" / "config.toml").samefile(usual / "img" / "config.toml")
    assert (own / "containers").samefile(usual / "containers")
    import tomllib

    assert tomllib.loads((own / "img" / "registries.toml").read_text())["registry"] == tables


def test_a_file_of_the_user_and_flags_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "registries.toml").write_text("")
    tables = registries(parse(["--registry-mirror", "m.example"]), {})
    with pytest.raises(UsageError, match="exclude each other"):
        own_configuration(tables, str(tmp_path / "scratch"), {"XDG_CONFIG_HOME": str(tmp_path)})
    assert own_configuration({}, str(tmp_path / "scratch"), {"XDG_CONFIG_HOME": str(tmp_path)}) == {}
