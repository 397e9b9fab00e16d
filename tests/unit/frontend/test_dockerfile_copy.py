"""Cases CP, AD and parts of HD of the Dockerfile specification, as far as planning decides them."""

import pytest
from frontend_support import actions, failure, history, image, vertices

from img_core.spec.graph import Copy, FileOp, MergeOp, SourceOp, WriteFile


def copied(line: str) -> Copy:
    """Return the action of *line* in a stage whose working directory is /w."""
    (action,) = actions(f"FROM b\nWORKDIR /w\n{line}")
    assert isinstance(action, Copy)
    return action


@pytest.mark.parametrize(
    ("source", "path"),
    [
        pytest.param("dir", "/dir", id="CP4-plain"),
        pytest.param("dir/", "/dir", id="CP4-slash"),
        pytest.param("dir/.", "/dir", id="CP4-dot"),
        pytest.param("../a.txt", "/a.txt", id="CP21-dots"),
        pytest.param("/a.txt", "/a.txt", id="CP21-rooted"),
        pytest.param("//a.txt", "/a.txt", id="CP21-two-slashes"),
        pytest.param("a.txt/", "/a.txt", id="CP22"),
        pytest.param("./x//y", "/x/y", id="spelling-is-not-in-the-key"),
        pytest.param(".", "/", id="everything"),
        pytest.param("arr[[]0].txt", "/arr[[]0].txt", id="CP17"),
    ],
)
def test_source_is_inside_the_context(source: str, path: str) -> None:
    assert copied(f"COPY {source} /x/").sources == (path,)


@pytest.mark.parametrize(
    ("destination", "path"),
    [
        pytest.param("/x", "/x", id="file"),
        pytest.param("/x/", "/x/", id="directory"),
        pytest.param("x/", "/w/x/", id="relative"),
        pytest.param("$EMPTY", "/w/", id="CP45"),
        pytest.param(".", "/w/", id="dot"),
        pytest.param("..", "/", id="CP46"),
        pytest.param("/", "/", id="root"),
        pytest.param("../../../x", "/x", id="clamped"),
    ],
)
def test_destination_is_absolute(destination: str, path: str) -> None:
    assert copied(f"COPY a.txt {destination}").destination == path


@pytest.mark.parametrize(
    ("source", "path"),
    [
        pytest.param("./x/./y/*.txt", "/x/./y/*.txt", id="CP41-pivot"),
        pytest.param("src/./x", "/src/./x", id="CP41-second"),
        pytest.param("./src/**/*.txt", "/src/**/*.txt", id="CP42"),
        pytest.param("src/a.txt", "/src/a.txt", id="CP44"),
    ],
)
def test_parents_keeps_the_pivot(source: str, path: str) -> None:
    action = copied(f"COPY --parents {source} /p/")
    assert (action.sources, action.parents) == ((path,), True)


def test_flags_are_expanded_into_the_action() -> None:
    text = "FROM b\nENV U=5 M=u=rwX,go=rX P=*.txt\nCOPY --chown=$U:6 --chmod=$M --exclude=$P --exclude=!a.txt dir /x/"
    (action,) = actions(text)
    assert (action.owner, action.mode, action.exclude) == ("5:6", "u=rwX,go=rX", ("*.txt", "!a.txt"))  # CP40


def test_sources_of_one_instruction_stay_together() -> None:  # CA13
    assert copied("COPY a b /x/").sources == ("/a", "/b")


def test_history_shows_owner_mode_and_parents_only() -> None:  # CF3
    assert history("FROM b\nCOPY --chown=1:2 --chmod=644 --link=false a d /x/") == [
        "COPY --chown=1:2 --chmod=644 a d /x/ # buildkit"
    ]
    assert history("FROM b AS s\nFROM b\nCOPY --from=s --exclude=q --parents ./a /x/") == [
        "COPY --parents ./a /x/ # buildkit"
    ]


def test_link_is_made_apart_and_stacked() -> None:  # CP47, CP48
    text = "FROM b\nRUN {}\nCOPY --link --chmod=644 a /x/"
    first, second = (image(text.format(command)).root for command in ("one", "two"))
    assert first is not None
    assert second is not None
    assert isinstance(first.op, MergeOp)
    assert first.inputs[1].digest == second.inputs[1].digest
    assert first.inputs[0].digest != second.inputs[0].digest
    assert first.name == "[3/3] LINK COPY --link --chmod=644 a /x/"
    layer = first.inputs[1]
    assert isinstance(layer.op, FileOp)
    assert not layer.op.has_base
    entry = image(text.format("one")).history[-1].vertex
    assert entry is not None
    assert entry.digest == layer.digest


def test_link_needs_numeric_owners() -> None:  # CP10
    error = failure("FROM b\nCOPY --link --chown=u a /x")
    assert error.message == "invalid user in --chown=u: names cannot be looked up with --link"
    assert actions("FROM scratch\nCOPY --link --chown=5: a /x")[0].owner == "5:"


def test_from_stage_by_name_in_any_case_and_by_index() -> None:  # ST1
    text = "FROM b AS Build\nRUN x\nFROM b\nCOPY --from={} /f /g"
    by_name, by_index = (image(text.format(name)).root for name in ("bUILD", "0"))
    assert by_name is not None
    assert by_index is not None
    assert by_name.digest == by_index.digest
    assert by_name.inputs[1].name == "[build 2/2] RUN x"


def test_from_scratch_is_empty() -> None:  # ST6
    root = image("FROM b\nCOPY --from=scratch / /x/").root
    assert root is not None
    assert len(root.inputs) == 1
    assert isinstance(root.op, FileOp)
    assert root.op.actions[0].input is None  # type: ignore[union-attr]


def test_from_image_is_normalised() -> None:
    root = image("FROM b\nCOPY --from=i:2 / /x/").root
    assert root is not None
    assert root.inputs[1].op == SourceOp("docker-image", "docker.io/library/i:2")


def test_user_does_not_own_what_is_copied() -> None:  # CP34
    assert actions("FROM b\nUSER 1000\nCOPY a.txt /x/")[0].owner == ""


def test_heredocs_become_files() -> None:  # HD5, HD6, HD7, HD8
    text = "FROM b\nENV V=vv\nCOPY <<EOF <<-'E'OF2 a.txt /dd/\n$V \\$V \"q\"\nEOF\n\t\t$V\n\t EOF2\n\tEOF2\n"
    copy, first, second = actions(text)
    assert copy.sources == ("/a.txt",)
    assert first == WriteFile("EOF", b'vv $V "q"\n', "/dd/")
    assert second == WriteFile("EOF2", b"$V\n EOF2\n", "/dd/")


@pytest.mark.parametrize(
    ("written", "name"),
    [("e.sh", "e.sh"), ("./e", "e"), ("../e", "e"), ("/e", "e"), ("d/../e", "e"), ("e/", "e"), ("d/e", "d/e")],
)
def test_heredoc_is_a_file_of_the_root_of_an_empty_tree(written: str, name: str) -> None:
    (action,) = actions(f"FROM b\nCOPY <<{written} /x/\n1\n{written}\n")
    assert isinstance(action, WriteFile)
    assert action.name == name
    assert (
        image(f"FROM b\nCOPY <<{written} /x/\n1\n{written}\n").history[-1].created_by
        == f"COPY <<{written} /x/ # buildkit"
    )


def test_heredoc_takes_owner_and_mode() -> None:
    (action,) = actions("FROM b\nADD --chown=1 --chmod=600 <<E /h\n\nE\n")
    assert action == WriteFile("E", b"\n", "/h", owner="1", mode="600")


def test_heredoc_name_and_content_are_in_the_key() -> None:
    digests = set()
    for name, body in (("A", "1"), ("B", "1"), ("A", "2")):
        root = image(f"FROM b\nCOPY <<{name} /x/\n{body}\n{name}").root
        assert root is not None
        digests.add(root.digest)
    assert len(digests) == 3


def test_comments_and_escapes_inside_a_body_are_text() -> None:
    (action,) = actions("FROM b\nCOPY <<'E' /h\n# c\n\na \\\nE\n")
    assert action.content == b"# c\n\na \\\n"


@pytest.mark.parametrize("line", ["ENV X=<<EOF", 'LABEL x="<<EOF"'])
def test_other_instructions_have_no_heredocs(line: str) -> None:  # HD10
    assert image(f"FROM b\n{line}")


class TestAdd:
    def test_local_archives_are_unpacked_unless_forbidden(self) -> None:  # AD4
        assert copied("ADD x.tar /e/").unpack
        assert not copied("ADD --unpack=false x.tar /e/").unpack
        assert not copied("COPY x.tar /e/").unpack

    def test_add_and_copy_share_no_record(self) -> None:  # CA18
        assert copied("ADD x /e") != copied("COPY x /e")
        assert copied("ADD x /e").add

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            pytest.param("http://h/f.txt?a=b", "/f.txt", id="AD11"),
            pytest.param("http://h/", "/__unnamed__", id="AD12"),
            pytest.param("https://h", "/__unnamed__", id="no-path"),
            pytest.param("https://h/dir/", "/dir", id="directory"),
            pytest.param("https://h/a%20b", "/a b", id="quoted"),
            pytest.param("https://h/a%2f..%2f..", "/__unnamed__", id="hostile"),
            pytest.param("https://h/[x]*", "/\\[x\\]\\*", id="wildcards"),
        ],
    )
    def test_url_is_a_tree_of_one_file(self, url: str, name: str) -> None:
        root = image(f"FROM b\nADD {url} /x/").root
        assert root is not None
        op = root.inputs[1].op
        assert isinstance(op, SourceOp)
        assert (op.scheme, op.reference) == ("https", url)
        assert isinstance(root.op, FileOp)
        assert root.op.actions[0].sources == (name,)  # type: ignore[union-attr]

    def test_url_is_unpacked_on_request_only(self) -> None:  # AD14
        assert not copied("ADD https://h/x.tar.gz /x/").unpack
        assert copied("ADD --unpack https://h/x.tar.gz /x/").unpack

    def test_upper_case_scheme_is_a_path(self) -> None:  # AD15
        assert copied("ADD HTTP://h/x /x/").sources == ("/HTTP:/h/x",)

    @pytest.mark.parametrize(
        "url",
        ["https://h/repo.git#v1:sub", "git://h/r", "git@h.example:r.git", "ssh://git@h/r", "https://h/r.git?ref=x"],
    )
    def test_git_source(self, url: str) -> None:  # AD16, AD17
        root = image(f"FROM b\nADD --keep-git-dir --checksum=0123abc {url} /g").root
        assert root is not None
        assert root.inputs[1].op == SourceOp("git", url, (("checksum", "0123abc"), ("keep-git-dir", "true")))

    def test_local_sources_are_grouped_between_remote_ones(self) -> None:
        found = actions("FROM b\nADD a b https://h/c d /x/")
        assert [action.sources for action in found] == [("/a", "/b"), ("/c",), ("/d",)]
        assert [action.input for action in found] == [2, 1, 2]  # 0 is the base

    def test_checksum_goes_to_the_source(self) -> None:
        digest = "sha256:" + "0" * 64
        ops = [vertex.op for vertex in vertices(image(f"FROM b\nADD --checksum={digest} https://h/f /f").root)]
        assert SourceOp("https", "https://h/f", (("filename", "f"), ("checksum", digest))) in ops


def test_an_empty_from_is_the_context() -> None:
    assert copied("COPY --from= a /b") == copied("COPY a /b")
    context = next(vertices(image("FROM scratch\nCOPY --from= a /b").root))
    assert context.name.endswith("build context")


def test_letters_of_flags_stay_what_they_are() -> None:
    assert copied("COPY --exclude=é* --exclude='ö' a /b").exclude == ("é*", "ö")
