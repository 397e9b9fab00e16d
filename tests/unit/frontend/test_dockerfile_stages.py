"""Stages, triggers, contexts and platforms: cases ST and OB of the Dockerfile specification, and names of steps."""

import pytest
from frontend_support import (
    AMD64,
    ARM64,
    BUSYBOX,
    DIGEST,
    DictResolver,
    config,
    env,
    failure,
    history,
    image,
    plan,
    run,
    vertices,
)

from img_core.spec.graph import Copy, FileOp, Location, SourceOp
from img_core.spec.values import Platform

V6, V7 = Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7")
ONB = {
    "config": {
        "Env": ["PATH=/bin"],
        "OnBuild": ["ENV E=1", "ARG A=2", "WORKDIR /w", "RUN echo $A", "COPY --from=build x /y"],
    }
}


def names(text: str, **options: object) -> list[str]:
    return [vertex.name for vertex in vertices(image(text, **options).root) if vertex.name.startswith("[")]


def test_unreachable_stages_are_not_resolved() -> None:  # ST2
    resolver = DictResolver()
    text = "FROM missing AS m\nRUN false\nFROM ${U} AS n\nFROM b AS x\nCOPY --from=nope x /\nFROM b"
    assert plan(text, resolver=resolver).images[0].root is not None
    assert resolver.asked == [("docker.io/library/b:latest", "linux/amd64")]


def test_target_is_found_in_any_case() -> None:
    text = "FROM b AS One\nENV A=1\nFROM b\nENV A=2"
    assert env(text, target="oNE")["A"] == "1"
    assert env(text)["A"] == "2"


def test_stage_called_scratch_replaces_scratch() -> None:  # ST4
    text = "FROM b AS scratch\nENV A=1\nFROM scratch"
    assert env(text)["A"] == "1"
    assert "ReservedStageName" in [warning.rule for warning in plan(text).warnings]


def test_equal_steps_of_two_stages_are_one_vertex() -> None:  # ST5
    root = image(
        "FROM b AS x\nRUN same\nFROM b AS y\nRUN same\nFROM scratch\nCOPY --from=x / /\nCOPY --from=y / /"
    ).root
    assert len([vertex for vertex in vertices(root) if "RUN same" in vertex.name]) == 1


def test_names_stages_comments_and_case_do_not_count() -> None:
    first = image("FROM b AS x\nRUN a\nFROM x\nCOPY q /q").root
    second = image("# c\nfrom b as other\nrun \\\n# c\n a\n\nfrom other\ncopy ./q /q").root
    assert first is not None
    assert second is not None
    assert first.digest == second.digest


def test_platform_flag_may_be_empty() -> None:  # ST7
    assert plan("FROM --platform= b").images


def test_from_accepts_stage_names_in_any_case() -> None:
    assert env("FROM b AS build\nENV A=1\nFROM BUILD")["A"] == "1"


def test_later_definition_of_a_name_wins() -> None:
    text = "FROM b AS x\nENV A=1\nFROM b AS x\nENV A=2\nFROM x"
    assert env(text)["A"] == "2"
    assert env("FROM b AS x\nENV A=1\nFROM x AS x\nENV B=2\nFROM x") == {"PATH": "/bin", "A": "1", "B": "2"}


@pytest.mark.parametrize(("value", "index"), [("1", True), ("True", True), ("0", False), ("", False)])
def test_a_build_argument_asks_for_an_index_of_one_platform(value: str, index: bool) -> None:
    assert plan("FROM b", args={"BUILDKIT_MULTI_PLATFORM": value}).multi_platform is index


def test_a_build_argument_that_forbids_an_index_or_is_no_boolean_is_an_error() -> None:
    error = failure("FROM b", args={"BUILDKIT_MULTI_PLATFORM": "0"}, platforms=(AMD64, ARM64))
    assert error.message == "returning several platforms is not allowed by BUILDKIT_MULTI_PLATFORM=0"
    assert failure("FROM b", args={"BUILDKIT_MULTI_PLATFORM": "x"}).message.startswith('invalid boolean value "x"')


class TestContexts:
    def test_named_context_replaces_stage_and_image(self) -> None:  # ST8, ST9
        images = {"docker.io/library/other:1": {"config": {"Env": ["PATH=/o"]}}}
        for name in ("b", "proj"):
            resolver = DictResolver(images, {name: ("docker-image", "docker.io/library/other:1")})
            assert env(f"FROM b AS proj\nENV A=1\nFROM {name}", resolver=resolver)["PATH"] == "/o"

    @pytest.mark.parametrize(
        ("written", "replaced"), [("b", True), ("b:latest", True), ("docker.io/library/b", True), ("b:other", False)]
    )
    def test_key_is_the_familiar_name_without_latest(self, written: str, replaced: bool) -> None:
        images = {"docker.io/library/b:other": BUSYBOX, "docker.io/library/o:1": {"config": {"User": "o"}}}
        resolver = DictResolver(images, {"b": ("docker-image", "docker.io/library/o:1")})
        assert ("User" in config(f"FROM {written}", resolver=resolver)) is replaced

    def test_key_for_one_platform_is_tried_first(self) -> None:
        resolver = DictResolver({}, {"c::linux/amd64": ("local", "x"), "c": ("git", "https://h/r.git")})
        root = image("FROM b\nCOPY --from=c / /x", resolver=resolver).root
        assert root is not None
        assert root.inputs[1].op == SourceOp("local", "c::linux/amd64")

    def test_local_context_as_base_becomes_a_layer(self) -> None:
        result = image("FROM proj\nENV A=1", resolver=DictResolver({}, {"proj": ("local", "proj")}))
        assert result.root is not None
        assert result.root.op == FileOp((Copy(0, ("/",), "/"),), has_base=False)
        assert result.root.inputs[0].op == SourceOp("local", "proj")
        assert result.base is None

    def test_context_may_stand_for_scratch_but_not_replace_it(self) -> None:
        resolver = DictResolver({}, {"b": ("docker-image", "scratch"), "scratch": ("docker-image", "b")})
        assert image("FROM b", resolver=resolver).root is None
        assert image("FROM scratch", resolver=resolver).root is None

    def test_layout_as_base_is_fetched_from_the_layout(self) -> None:
        resolver = DictResolver({"oci-layout:///l:t": BUSYBOX}, {"x": ("oci-layout", "/l:t")})
        root = image("FROM x", resolver=resolver).root
        assert root is not None
        assert root.op == SourceOp("oci-layout", "/l:t")

    def test_image_behind_a_context_is_normalised_or_refused(self) -> None:
        root = image("FROM b\nCOPY --from=c / /", resolver=DictResolver({}, {"c": ("docker-image", "q")})).root
        assert root is not None
        assert root.inputs[1].op == SourceOp("docker-image", "docker.io/library/q:latest")
        error = failure("FROM c", resolver=DictResolver({}, {"c": ("docker-image", "Q")}))
        assert error.message.startswith("invalid context specifier for c: invalid reference format")

    def test_remote_main_context_takes_the_place_of_the_directory(self) -> None:
        resolver = DictResolver({}, {"context": ("git", "https://h/r.git#main")})
        root = image("FROM b\nCOPY a /a", resolver=resolver).root
        assert root is not None
        assert root.inputs[1].op == SourceOp("git", "https://h/r.git#main")


class TestTriggers:
    resolver = DictResolver({"docker.io/library/onb:latest": ONB})

    def test_triggers_of_an_image_run_first(self) -> None:  # OB1, OB4
        text = "FROM b AS build\nRUN one\nFROM onb\nENV O=$E$A\nRUN pwd"
        result = image(text, resolver=self.resolver)
        assert result.config["config"]["Env"] == ["PATH=/bin", "E=1", "O=12"]
        assert "OnBuild" not in result.config["config"]
        assert run(text, resolver=self.resolver).cwd == "/w"
        assert history(text, resolver=self.resolver) == [
            "ENV E=1",
            "ARG A=2",
            "WORKDIR /w",
            "RUN |1 A=2 /bin/sh -c echo $A # buildkit",
            "COPY x /y # buildkit",
            "ENV O=12",
            "RUN |1 A=2 /bin/sh -c pwd # buildkit",
        ]
        assert result.root is not None
        assert result.root.name == "[stage-1 5/5] RUN pwd"
        assert result.root.inputs[0].name == "[stage-1 4/5] ONBUILD COPY --from=build x /y"

    def test_triggers_stand_at_the_line_of_from(self) -> None:
        text = "FROM b AS build\nFROM onb"
        root = image(text, resolver=self.resolver).root
        assert root is not None
        assert root.location == Location("Dockerfile", 2, 2)

    def test_triggers_do_not_fire_twice(self) -> None:  # OB2
        text = "FROM b AS build\nFROM onb AS mid\nFROM mid"
        assert len(history(text, resolver=self.resolver)) == 5

    def test_triggers_of_a_stage_fire_in_its_child_only(self) -> None:  # OB3
        text = "FROM b AS p\nONBUILD RUN x\nONBUILD COPY <<E /e\n1\nE\nFROM p\nRUN y"
        assert config(text, target="p")["OnBuild"] == ["RUN x", "COPY <<E /e\n1\nE"]  # HD12
        assert history(text, target="p") == []
        assert history(text) == [
            "RUN /bin/sh -c x # buildkit",
            "COPY <<E /e # buildkit",
            "RUN /bin/sh -c y # buildkit",
        ]

    def test_bad_triggers_are_accepted_when_written(self) -> None:  # OB5
        text = "FROM b AS p\nONBUILD FOO x\nONBUILD COPY --bad=1"
        assert config(text)["OnBuild"] == ["FOO x", "COPY --bad=1"]
        assert failure(text + "\nFROM p").message == "unknown instruction: FOO (did you mean FROM?)"

    @pytest.mark.parametrize(
        ("trigger", "message"),
        [
            ("ENV A", "ENV must have two arguments"),
            ("env A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
            ("LABEL a", "LABEL must have two arguments"),
            ("LABEL a=1 b", 'Syntax error - can\'t find = in "b". Must be of the form: name=value'),
            *(
                (f'{word} ["a",1]', "when using JSON array syntax, arrays must be comprised of strings only")
                for word in ("RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "COPY --link", "ADD", "HEALTHCHECK CMD")
            ),
        ],
    )
    def test_form_of_a_trigger_is_checked_where_it_is_written(self, trigger: str, message: str) -> None:
        error = failure(f"FROM b\nONBUILD {trigger}")
        assert (error.message, error.line) == (message, 2)

    @pytest.mark.parametrize(
        "trigger", ["ENV A 1", "ENV =x", "LABEL a=1", "RUN [a", 'RUN ["a"]', "ENV", "HEALTHCHECK X", "RUN a  \t"]
    )
    def test_meaning_of_a_trigger_is_looked_at_when_it_fires(self, trigger: str) -> None:
        assert config(f"FROM b\nONBUILD {trigger}")["OnBuild"] == [trigger]

    def test_triggers_of_a_copied_image_do_not_fire(self) -> None:  # OB6
        assert history("FROM b\nCOPY --from=onb /x /x", resolver=self.resolver) == ["COPY /x /x # buildkit"]

    def test_trigger_that_copies_from_its_own_or_a_later_stage_is_refused(self) -> None:
        assert failure("FROM onb AS build", resolver=self.resolver).message == (
            "circular dependency detected on stage: build"
        )
        later = failure("FROM onb AS x\nFROM b AS build\nFROM x", resolver=self.resolver)
        assert later.message.startswith('cannot copy from stage "build"')

    def test_own_escape_character_does_not_change_triggers(self) -> None:
        images = {"docker.io/library/t:latest": {"config": {"OnBuild": ["RUN a \\\n b"]}}}
        text = "# escape=`\nFROM t"
        assert history(text, resolver=DictResolver(images)) == ["RUN /bin/sh -c a  b # buildkit"]


class TestPlatforms:
    def test_stage_may_run_on_the_build_platform(self) -> None:
        resolver = DictResolver()
        text = "FROM --platform=$BUILDPLATFORM b AS c\nRUN x\nFROM b\nCOPY --from=c / /"
        root = plan(text, platforms=(ARM64,), resolver=resolver).images[0].root
        assert sorted(resolver.asked) == [
            ("docker.io/library/b:latest", "linux/amd64"),
            ("docker.io/library/b:latest", "linux/arm64"),
        ]
        assert {str(v.platform) for v in vertices(root) if "RUN" in v.name} == {"linux/amd64"}

    def test_result_carries_the_platform_of_its_stage(self) -> None:  # CF17
        result = image("FROM b", platforms=(V7,))
        assert (result.config["architecture"], result.config["variant"]) == ("arm", "v7")
        assert image("FROM --platform=linux/arm64 b").config["architecture"] == "arm64"

    @pytest.mark.parametrize(
        ("text", "base", "fixed", "shown"),
        [
            ("FROM --platform=linux/amd64 b", AMD64, True, "linux/arm64"),
            ("FROM --platform=linux/amd64 b", AMD64, False, "linux/amd64"),
            ("FROM --platform=linux/amd64 scratch", AMD64, False, "linux/arm64"),
            ("FROM --platform=linux/amd64 b AS c\nFROM c", AMD64, True, "linux/arm64"),
            ("FROM b", AMD64, False, "linux/amd64"),  # all that there is of the image
            ("FROM b", Platform("linux", "arm64", "v9"), True, "linux/arm64/v9"),
            ("FROM b", V6, True, "linux/arm64"),
        ],
    )
    def test_image_is_for_the_platform_that_was_asked_for(
        self, text: str, base: Platform, fixed: bool, shown: str
    ) -> None:
        found = image(text, platforms=(ARM64,), fixed_platform=fixed, resolver=DictResolver(platform=base)).config
        assert "/".join(found[key] for key in ("os", "architecture", "variant") if key in found) == shown

    def test_image_of_another_platform_is_used_with_a_warning(self) -> None:
        result = plan("FROM b", platforms=(ARM64,), fixed_platform=True, resolver=DictResolver(platform=AMD64))
        assert [(warning.rule, warning.message) for warning in result.warnings] == [
            (
                "InvalidBaseImagePlatform",
                'Base image b was pulled with platform "linux/amd64", expected "linux/arm64" for current build',
            )
        ]
        assert result.images[0].config["architecture"] == "arm64"
        (warning,) = plan("ARG N=b\nFROM $N", platforms=(ARM64,), resolver=DictResolver(platform=AMD64)).warnings
        assert warning.message.startswith("Base image b was pulled ")
        assert plan("FROM b", platforms=(V7,), resolver=DictResolver(platform=V6)).warnings == ()

    def test_cross_built_steps_of_two_platforms_are_shared(self) -> None:
        text = "FROM --platform=$BUILDPLATFORM b AS c\nRUN x\nFROM scratch\nCOPY --from=c / /"
        roots = [item.root for item in plan(text, platforms=(AMD64, ARM64)).images]
        assert roots[0] is not None
        assert roots[1] is not None
        assert roots[0].digest == roots[1].digest


class TestStepNames:
    def test_single_stage(self) -> None:
        text = "FROM b\nENV A=1\nRUN echo $A $B\nworkdir $A\nCOPY a \\\n  /x"
        assert names(text) == [
            f"[1/4] FROM docker.io/library/b:latest@{DIGEST}",
            "[2/4] RUN echo 1 $B",
            "[3/4] WORKDIR 1",
            "[internal] load build context",
            "[4/4] COPY a   /x",
        ]

    def test_several_stages(self) -> None:
        text = "FROM b AS one\nRUN x\nFROM scratch\nCOPY --from=one / /\nCOPY <<E /e\n1\nE"
        assert names(text) == [
            f"[one 1/2] FROM docker.io/library/b:latest@{DIGEST}",
            "[one 2/2] RUN x",
            "[stage-1 1/2] COPY --from=one / /",
            "[stage-1 2/2] COPY <<E /e",
        ]

    def test_numbers_are_aligned(self) -> None:
        assert names("FROM b\n" + "RUN x\n" * 11)[1].startswith("[ 2/12] RUN x")

    def test_several_platforms(self) -> None:
        text = "FROM --platform=$BUILDPLATFORM b AS c\nRUN x\nFROM b\nCOPY --from=c / /"
        root = plan(text, platforms=(AMD64, ARM64)).images[1].root
        found = [vertex.name.split("]")[0] for vertex in vertices(root)]
        assert found == [
            "[linux/arm64 stage-1 1/2",
            "[linux/amd64->arm64 c 1/2",
            "[linux/amd64->arm64 c 2/2",
            "[linux/arm64 stage-1 2/2",
        ]

    def test_heredoc_is_summarised(self) -> None:
        assert names("FROM b\nRUN <<E\none\ntwo\nE")[-1] == "[2/2] RUN <<E (one...)"
        assert names("FROM b\nRUN <<-E\n\n\tone\nE")[-1] == "[2/2] RUN <<-E (one)"
        assert names("FROM b\nRUN <<E sh\none\nE")[-1] == "[2/2] RUN <<E sh"

    def test_steps_know_their_lines(self) -> None:
        root = image("FROM b\n\nRUN a \\\n  b\n").root
        assert root is not None
        assert root.location == Location("Dockerfile", 3, 4)


@pytest.mark.parametrize(
    ("options", "fresh"),
    [
        ({}, set()),
        ({"no_cache": True}, {"RUN 1", "RUN 2"}),
        ({"no_cache_stages": ("ONE",)}, {"RUN 1"}),
        ({"no_cache_stages": ("nope",)}, set()),
    ],
)
def test_no_cache(options: dict[str, object], fresh: set[str]) -> None:
    root = image("FROM b AS one\nRUN 1\nFROM one AS two\nRUN 2", **options).root
    assert {v.name[-5:] for v in vertices(root) if not v.use_cache and "RUN" in v.name} == fresh


def test_the_bases_of_all_needed_stages_are_announced_before_the_first_is_asked_for() -> None:
    text = (
        "FROM b AS one\nFROM --platform=linux/s390x c AS two\nFROM unused AS three\nFROM one\nCOPY --from=two /a /a\n"
    )
    resolver = DictResolver(images={"docker.io/library/c:latest": BUSYBOX})
    plan(text, resolver=resolver, platforms=(AMD64, ARM64))
    expected = [("docker.io/library/b:latest", "linux/amd64"), ("docker.io/library/c:latest", "linux/s390x")]
    expected += [("docker.io/library/b:latest", "linux/arm64"), ("docker.io/library/c:latest", "linux/s390x")]
    assert resolver.expected == expected
    assert set(resolver.asked) == set(expected)
