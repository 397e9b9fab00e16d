import pytest
from hypothesis import given
from hypothesis import strategies as st

from img_core.images.digests import is_digest
from img_core.images.reference import InvalidReference, Reference, is_tag

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

GOOD = [
    # text, domain, path, tag, digest, familiar
    ("busybox", "docker.io", "library/busybox", None, None, "busybox"),
    ("busybox:1.36", "docker.io", "library/busybox", "1.36", None, "busybox:1.36"),
    (f"busybox@{DIGEST}", "docker.io", "library/busybox", None, DIGEST, f"busybox@{DIGEST}"),
    (f"busybox:1@{DIGEST}", "docker.io", "library/busybox", "1", DIGEST, f"busybox:1@{DIGEST}"),
    ("library/busybox", "docker.io", "library/busybox", None, None, "busybox"),
    ("docker.io/busybox", "docker.io", "library/busybox", None, None, "busybox"),
    ("docker.io/library/busybox", "docker.io", "library/busybox", None, None, "busybox"),
    ("index.docker.io/busybox", "docker.io", "library/busybox", None, None, "busybox"),
    ("user/app", "docker.io", "user/app", None, None, "user/app"),
    ("user/group/app:v1", "docker.io", "user/group/app", "v1", None, "user/group/app:v1"),
    ("library/a/b", "docker.io", "library/a/b", None, None, "library/a/b"),
    ("quay.io/a/b", "quay.io", "a/b", None, None, "quay.io/a/b"),
    ("quay.io/b", "quay.io", "b", None, None, "quay.io/b"),
    ("localhost/x", "localhost", "x", None, None, "localhost/x"),
    ("localhost:5000/x", "localhost:5000", "x", None, None, "localhost:5000/x"),
    ("localhost", "docker.io", "library/localhost", None, None, "localhost"),
    ("docker.io/localhost/x", "docker.io", "localhost/x", None, None, "docker.io/localhost/x"),
    ("docker.io/a.b/x", "docker.io", "a.b/x", None, None, "docker.io/a.b/x"),
    ("127.0.0.1:5000/a:b", "127.0.0.1:5000", "a", "b", None, "127.0.0.1:5000/a:b"),
    ("[::1]:5000/a", "[::1]:5000", "a", None, None, "[::1]:5000/a"),
    ("[2001:db8::1]/a/b", "[2001:db8::1]", "a/b", None, None, "[2001:db8::1]/a/b"),
    ("Uppercase/lowercase", "Uppercase", "lowercase", None, None, "Uppercase/lowercase"),
    ("HOST.example/x", "HOST.example", "x", None, None, "HOST.example/x"),
    ("host:8080", "docker.io", "library/host", "8080", None, "host:8080"),
    ("a.b", "docker.io", "library/a.b", None, None, "a.b"),
    ("a.b/c", "a.b", "c", None, None, "a.b/c"),
    ("a_b", "docker.io", "library/a_b", None, None, "a_b"),
    ("a__b", "docker.io", "library/a__b", None, None, "a__b"),
    ("a---b", "docker.io", "library/a---b", None, None, "a---b"),
    ("0/1", "docker.io", "0/1", None, None, "0/1"),
    ("a:_x", "docker.io", "library/a", "_x", None, "a:_x"),
    ("a:UPPER.tag-1", "docker.io", "library/a", "UPPER.tag-1", None, "a:UPPER.tag-1"),
    ("a:" + "t" * 128, "docker.io", "library/a", "t" * 128, None, "a:" + "t" * 128),
    ("xn--bcher-kva.example/x", "xn--bcher-kva.example", "x", None, None, "xn--bcher-kva.example/x"),
    (f"a@sha512:{HEX * 2}", "docker.io", "library/a", None, f"sha512:{HEX * 2}", f"a@sha512:{HEX * 2}"),
    (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", None, None, f"docker.io/library/{HEX}"),
    (HEX[:63], "docker.io", f"library/{HEX[:63]}", None, None, HEX[:63]),
]

BAD = [
    ("", "invalid reference format"),
    (" ", "invalid reference format"),
    (":tag", "invalid reference format"),
    ("@" + DIGEST, "invalid reference format"),
    ("a:", "invalid reference format"),
    ("a@", "invalid reference format"),
    ("a:-x", "invalid reference format"),
    ("a:" + "t" * 129, "invalid reference format"),
    ("a b", "invalid reference format"),
    ("a\n", "invalid reference format"),
    ("A\n", "invalid reference format"),
    ("a//b", "invalid reference format"),
    ("/a", "invalid reference format"),
    ("a/", "invalid reference format"),
    ("-a", "invalid reference format"),
    ("a-", "invalid reference format"),
    ("a..b", "invalid reference format"),
    ("a___b", "invalid reference format"),
    ("a/../b", "invalid reference format"),
    ("https://quay.io/a", "invalid reference format"),
    ("host:port/a", "invalid reference format"),
    ("-x.example/a", "invalid reference format"),
    ("[::1/a", "invalid reference format"),
    ("[fe80::1%eth0]:5000/a", "invalid reference format"),
    ("a:tag:tag", "invalid reference format"),
    (f"a@{DIGEST}@{DIGEST}", "invalid reference format"),
    ("a@sha256:zz", "invalid reference format"),
    ("b\u00fccher", "invalid reference format"),
    ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
    ("docker.io/UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
    ("localhost:5000/UPPER:x", "invalid reference format: repository name (UPPER) must be lowercase"),
    ("a/B/c", "invalid reference format: repository name (a/B/c) must be lowercase"),
    (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    (f"a@sha256:{HEX.upper()}", "invalid checksum digest format"),
    (f"a@sha256:{HEX[:40]}", "invalid checksum digest length"),
    (f"a@md5:{HEX[:32]}", "unsupported digest algorithm"),
    ("quay.io/" + "a" * 256, "repository name must not be more than 255 characters"),
]


@pytest.mark.parametrize(("text", "domain", "path", "tag", "digest", "familiar"), GOOD)
def test_reference_is_normalised_and_shortened(
    text: str, domain: str, path: str, tag: str | None, digest: str | None, familiar: str
) -> None:
    reference = Reference.parse(text)
    assert reference == Reference(domain, path, tag, digest)
    assert reference.familiar() == familiar


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_reference_is_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.message == message
    assert caught.value.exit_code == 2


def test_caller_chooses_the_words_before_the_fault() -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("h.example/UPPER", prefix='failed to parse stage name "h.example/UPPER": ')
    assert str(caught.value) == (
        'failed to parse stage name "h.example/UPPER": '
        "invalid reference format: repository name (UPPER) must be lowercase"
    )


def test_default_tag_is_added_only_where_nothing_is_named() -> None:
    assert str(Reference.parse("a").with_default_tag()) == "docker.io/library/a:latest"
    assert str(Reference.parse("a:b").with_default_tag()) == "docker.io/library/a:b"
    assert Reference.parse(f"a@{DIGEST}").with_default_tag().tag is None


def test_digest_and_tag_are_checked_when_set() -> None:
    reference = Reference.parse("a:b")
    assert str(reference.with_digest(DIGEST)) == f"docker.io/library/a:b@{DIGEST}"
    assert str(reference.with_digest(DIGEST).with_tag("c")) == "docker.io/library/a:c"
    with pytest.raises(InvalidReference, match="invalid digest format"):
        reference.with_digest("sha256:../../../etc/passwd")
    with pytest.raises(InvalidReference, match="invalid tag format"):
        reference.with_tag("../x")


BAD_DIGESTS = ["sha256:" + HEX.upper(), "sha256:" + HEX[1:], "md5:" + HEX[:32], "sha256", "", DIGEST + "\n"]


@pytest.mark.parametrize("text", BAD_DIGESTS)
def test_only_verifiable_lower_case_digests_count(text: str) -> None:
    assert not is_digest(text)
    assert is_digest(DIGEST)


_components = st.from_regex(r"[a-z0-9]{1,9}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,9}){0,3}", fullmatch=True)
_domains = st.from_regex(
    r"(docker\.io|localhost|[a-z0-9]{1,9}\.[a-z0-9]{1,5}|\[::[0-9a-f]{1,4}\])(:[0-9]{1,5})?", fullmatch=True
)
_tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(_domains, st.lists(_components, min_size=1, max_size=4), st.none() | _tags, st.booleans())
def test_both_spellings_of_a_reference_parse_back(domain: str, path: list[str], tag: str | None, pinned: bool) -> None:
    text = f"{domain}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{DIGEST}" if pinned else "")
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar()) == reference
    assert len(reference.familiar()) <= len(str(reference))


@given(st.text(max_size=40) | st.text("abAB/:@.-_[]0\n", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference as error:
        assert error.message.isprintable()
        return
    assert Reference.parse(str(reference)) == reference
    assert reference.tag is None or is_tag(reference.tag)
