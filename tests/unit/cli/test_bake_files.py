"""Files of bake as people write them: each in HCL and in JSON, which mean the same, and what comes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from img_core.cli.bake._file import BakeFile, printed
from img_core.images.platforms import host_platform
from img_core.spec.errors import ImgError

SERVICES = (
    """\
variable "TAG" {
  default = "dev"
}
variable "REGISTRY" { default = "registry.example/shop" }

group "default" {
  targets = ["api", "web"]
}
group "all" { targets = ["default", "docs"] }

// what they share
target "_common" {
  args = {
    GO_VERSION = "1.22"
    VERSION    = TAG
    EMPTY      = null
  }
  labels = { "org.opencontainers.image.version" = "${TAG}" }
}

target "api" {
  inherits   = ["_common"]
  context    = "services/api"
  dockerfile = "Dockerfile.prod"
  tags       = ["${REGISTRY}/api:${TAG}", TAG == "dev" ? "" : "${REGISTRY}/api:latest"]
}

target "web" {
  inherits = ["_common"]
  context  = "services/web"
  args     = { GO_VERSION = "1.21" }
  target   = "release"
}

target "docs" { output = ["type=local,dest=site"] }
""",
    {
        "variable": {"TAG": {"default": "dev"}, "REGISTRY": {"default": "registry.example/shop"}},
        "group": {"default": {"targets": ["api", "web"]}, "all": {"targets": ["default", "docs"]}},
        "target": {
            "_common": {
                "args": {"GO_VERSION": "1.22", "VERSION": "${TAG}", "EMPTY": None},
                "labels": {"org.opencontainers.image.version": "${TAG}"},
            },
            "api": {
                "inherits": ["_common"], "context": "services/api", "dockerfile": "Dockerfile.prod",
                "tags": ["${REGISTRY}/api:${TAG}", "${TAG == \"dev\" ? \"\" : \"${REGISTRY}/api:latest\"}"],
            },
            "web": {"inherits": ["_common"], "context": "services/web", "args": {"GO_VERSION": "1.21"}, "target": "release"},
            "docs": {"output": ["type=local,dest=site"]},
        },
    },
)  # fmt: skip

VERSIONS = (
    """\
variable "PYTHONS" {
  type    = list(string)
  default = ["3.11", "3.12"]
}
function "tags" {
  params          = [name]
  variadic_params = more
  result          = concat(["img/${name}"], [for each in more : "img/${name}-${each}"])
}
target "py" {
  name = "py-${replace(version, ".", "-")}-${base.name}"
  matrix = {
    version = PYTHONS
    base = [
      { name = "slim", image = "debian:12" },
      { name = "alpine", image = "alpine:3.20" },
    ]
  }
  args = {
    PYTHON = version
    BASE   = base.image
  }
  tags = tags("py:${version}", base.name)
}
target "default" {
  inherits = ["py-3-12-slim"]
  contexts = { previous = "target:py-3-11-slim" }
}
""",
    {
        "variable": {"PYTHONS": {"type": "list(string)", "default": ["3.11", "3.12"]}},
        "function": {
            "tags": {
                "params": ["name"], "variadic_params": "more",
                "result": "${concat([\"img/${name}\"], [for each in more : \"img/${name}-${each}\"])}",
            }
        },
        "target": {
            "py": {
                "name": "py-${replace(version, \".\", \"-\")}-${base.name}",
                "matrix": {
                    "version": "${PYTHONS}",
                    "base": [{"name": "slim", "image": "debian:12"}, {"name": "alpine", "image": "alpine:3.20"}],
                },
                "args": {"PYTHON": "${version}", "BASE": "${base.image}"},
                "tags": "${tags(\"py:${version}\", base.name)}",
            },
            "default": {"inherits": ["py-3-12-slim"], "contexts": {"previous": "target:py-3-11-slim"}},
        },
    },
)  # fmt: skip

TYPES = (
    """\
variable "PUSH" { default = false }
variable "JOBS" {
  default     = 4
  description = "how many"
  validation {
    condition     = JOBS > 0
    error_message = "JOBS must be positive, not ${JOBS}"
  }
}
variable "NAMES" {
  default = ["a", "b"]
}
repository = "registry.example/${lower("App")}"
target "default" {
  args = {
    JOBS  = JOBS + 1
    PUSH  = PUSH
    FIRST = NAMES[0]
  }
  output = [PUSH ? "type=registry" : "type=docker"]
  tags   = formatlist("%s:%s", repository, NAMES)
  pull   = !PUSH && JOBS == 4
}
""",
    {
        "variable": {
            "PUSH": {"default": False},
            "JOBS": {
                "default": 4, "description": "how many",
                "validation": {"condition": "${JOBS > 0}", "error_message": "JOBS must be positive, not ${JOBS}"},
            },
            "NAMES": {"default": ["a", "b"]},
        },
        "repository": "registry.example/${lower(\"App\")}",
        "target": {
            "default": {
                "args": {"JOBS": "${JOBS + 1}", "PUSH": "${PUSH}", "FIRST": "${NAMES[0]}"},
                "output": ["${PUSH ? \"type=registry\" : \"type=docker\"}"],
                "tags": "${formatlist(\"%s:%s\", repository, NAMES)}",
                "pull": "${!PUSH && JOBS == 4}",
            }
        },
    },
)  # fmt: skip

CACHES = (
    """\
variable "CACHE" { default = "registry.example/cache" }
target "docker-metadata-action" {}
target "_cached" {
  cache-from = [{ type = "registry", ref = "${CACHE}:${regex_replace(BAKE_LOCAL_PLATFORM, "/", "-")}" }]
  cache-to   = ["type=inline"]
  secret     = [{ id = "token", env = "TOKEN" }]
  ssh        = ["default"]
}
target "app" {
  inherits   = ["docker-metadata-action", "_cached"]
  context    = BAKE_CMD_CONTEXT
  dockerfile-inline = <<-EOT
    FROM scratch
    ENV HOME=$${HOME}
  EOT
  cache-from = ["type=local,src=cache"]
  network    = "host"
}
target "debug" {
  inherits = ["app"]
  args     = merge({ MODE = "debug" }, { SAME = target.app.network })
  platforms = [BAKE_LOCAL_PLATFORM]
}
""",
    {
        "variable": {"CACHE": {"default": "registry.example/cache"}},
        "target": {
            "docker-metadata-action": {},
            "_cached": {
                "cache-from": [{"type": "registry", "ref": "${CACHE}:${regex_replace(BAKE_LOCAL_PLATFORM, \"/\", \"-\")}"}],
                "cache-to": ["type=inline"], "secret": [{"id": "token", "env": "TOKEN"}], "ssh": ["default"],
            },
            "app": {
                "inherits": ["docker-metadata-action", "_cached"], "context": "${BAKE_CMD_CONTEXT}",
                "dockerfile-inline": "FROM scratch\nENV HOME=$${HOME}\n", "cache-from": ["type=local,src=cache"], "network": "host",
            },
            "debug": {
                "inherits": ["app"], "args": "${merge({ MODE = \"debug\" }, { SAME = target.app.network })}",
                "platforms": ["${BAKE_LOCAL_PLATFORM}"],
            },
        },
    },
)  # fmt: skip

COMMON: dict[str, Any] = {
    "args": {"GO_VERSION": "1.22", "VERSION": "dev"},
    "labels": {"org.opencontainers.image.version": "dev"},
}
HOST = str(host_platform())
CACHED: dict[str, Any] = {
    "cache-from": [f"type=registry,ref=registry.example/cache:{HOST.replace('/', '-')}", "type=local,src=cache"],
    "cache-to": ["type=inline"], "secret": ["id=token,env=TOKEN"], "ssh": ["default"], "context": "cwd://",
    "dockerfile-inline": "FROM scratch\nENV HOME=${HOME}\n", "network": "host", "entitlements": ["network.host"],
}  # fmt: skip


def py(version: str, name: str, image: str) -> dict[str, Any]:
    return {"args": {"PYTHON": version, "BASE": image}, "tags": [f"img/py:{version}", f"img/py:{version}-{name}"]}


CASES = [
    pytest.param(
        SERVICES, ["all"], {},
        {
            "api": {**COMMON, "context": "services/api", "dockerfile": "Dockerfile.prod", "tags": ["registry.example/shop/api:dev"]},
            "web": {**COMMON, "context": "services/web", "target": "release", "args": {"GO_VERSION": "1.21", "VERSION": "dev"}},
            "docs": {"output": ["type=local,dest=site"]},
        },
        id="services-with-common-arguments",
    ),
    pytest.param(
        SERVICES, ["api"], {"TAG": "2", "REGISTRY": "r"},
        {"api": {"args": {"GO_VERSION": "1.22", "VERSION": "2"}, "labels": {"org.opencontainers.image.version": "2"},
                 "context": "services/api", "dockerfile": "Dockerfile.prod", "tags": ["r/api:2", "r/api:latest"]}},
        id="the-environment-overrides-variables",
    ),
    pytest.param(
        VERSIONS, ["py"], {},
        {"py-3-11-slim": py("3.11", "slim", "debian:12"), "py-3-11-alpine": py("3.11", "alpine", "alpine:3.20"),
         "py-3-12-slim": py("3.12", "slim", "debian:12"), "py-3-12-alpine": py("3.12", "alpine", "alpine:3.20")},
        id="a-matrix-is-a-group",
    ),
    pytest.param(
        VERSIONS, [], {},
        {"default": {**py("3.12", "slim", "debian:12"), "contexts": {"previous": "target:py-3-11-slim"}},
         "py-3-11-slim": {**py("3.11", "slim", "debian:12"), "output": ["type=cacheonly"]}},
        id="a-target-of-a-matrix-as-a-context",
    ),
    pytest.param(
        TYPES, [], {},
        {"default": {"args": {"JOBS": "5", "PUSH": "false", "FIRST": "a"}, "output": ["type=docker"],
                     "tags": ["registry.example/app:a", "registry.example/app:b"], "pull": True}},
        id="types",
    ),
    pytest.param(
        TYPES, [], {"PUSH": "1", "JOBS": "7"},
        {"default": {"args": {"JOBS": "8", "PUSH": "true", "FIRST": "a"}, "output": ["type=registry"],
                     "tags": ["registry.example/app:a", "registry.example/app:b"], "pull": False}},
        id="the-environment-is-converted",
    ),
    pytest.param(CACHES, ["app"], {}, {"app": CACHED}, id="caches-and-what-is-empty-without-its-action"),
    pytest.param(
        CACHES, ["debug"], {}, {"debug": {**CACHED, "args": {"MODE": "debug", "SAME": "host"}, "platforms": [HOST]}},
        id="attributes-of-other-targets",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("file", "names", "environment", "expected"), CASES)
def test_hcl_and_json_mean_the_same(
    tmp_path: Path, file: tuple[str, Any], names: list[str], environment: dict[str, str], expected: dict[str, Any]
) -> None:
    hcl, document = file
    (tmp_path / "docker-bake.hcl").write_text(hcl)
    (tmp_path / "docker-bake.json").write_text(json.dumps(document))
    for name in ("docker-bake.hcl", "docker-bake.json"):
        found = BakeFile([str(tmp_path / name)], environment).chosen(names)
        assert found == expected, name
    # What `--print` says is a file that means it, too.
    (tmp_path / "printed").write_text(json.dumps({"target": printed(expected)}))
    assert BakeFile([str(tmp_path / "printed")], {}).chosen(list(expected)) == expected


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("target \"a\" {\n  attest = []\n}", {}, "FILE:2: target `a` has `attest`, which is not supported"),
        ("target \"a\" {\n  tags = \"x\"\n}", {}, "FILE:2: `tags` of target `a` must be a list"),
        ("target \"a\" {\n  block {\n  }\n}", {}, "FILE:2: target `a` has a block `block`"),
        ("target {\n}", {}, "FILE:1: a target needs one name"),
        ("service \"a\" {\n}", {}, "FILE:1: `service` is not supported"),
        ("target \"a/b\" {\n}", {}, "FILE:1: `a/b` is no name of a target"),
        ("target \"a\" {\n name = \"b\"\n}", {}, "FILE:2: `name` needs a `matrix`"),
        ("target \"a\" {\n matrix = []\n}", {}, "FILE:2: `matrix` must be an object, not a list"),
        ("target \"a\" {\n matrix = { v = 1 }\n name = v\n}", {}, "FILE:2: `v` of `matrix` must be a list"),
        ("target \"a\" {\n matrix = { v = [1, 2] }\n name = \"b\"\n}", {}, "FILE:3: two targets of the matrix are called `b`"),
        ("target \"a\" {\n matrix = { v = [\"x.y\"] }\n name = v\n}", {}, "FILE:3: `x.y` is no name of a target"),
        ("variable \"A\" {\n  default = B\n}\nB = A", {}, "`A` has itself in its value"),
        ("variable \"A\" {\n  value = 1\n}", {}, "FILE:2: a variable has no `value`"),
        ("variable \"A\" {\n  default = 1\n}", {"A": "x"}, "FILE:1: variable `A` of the environment: `x` is no number"),
        ("variable \"A\" {\n  default = []\n}", {"A": "x"}, "it is to be a list, which a text cannot say"),
        ("variable \"A\" {\n  default = \"\"\n  validation {\n    condition = A != \"\"\n  }\n}", {}, "FILE:3: variable `A`: "),
        ("function \"f\" {\n  params = [1]\n  result = 1\n}", {}, "FILE:1: the parameters of function `f` must be names"),
        ("function \"f\" {\n  params = []\n}", {}, "FILE:1: function `f` has no `result`"),
        ("function \"f\" {\n  params = [a]\n  result = a\n}\ntarget \"a\" {\n  tags = f(1, 2)\n}", {},
         "FILE:6: function `f` is not called with 2 arguments"),
        ("function \"f\" {\n  params = [a]\n  result = f(a)\n}\ntarget \"a\" {\n  tags = f(1)\n}", {}, "too many calls within each other"),
        ("target \"a\" {\n  tags = target.a.tags\n}", {}, "`target.a.tags` has itself in its value"),
        ("target \"a\" {\n  tags = [target.b.tags]\n}", {}, "FILE:2: there is no `b` in the object"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_line(tmp_path: Path, text: str, environment: dict[str, str], message: str) -> None:
    path = tmp_path / "docker-bake.hcl"
    path.write_text(text)
    with pytest.raises(ImgError, match=re.escape(message.replace("FILE", str(path)))) as caught:
        BakeFile([str(path)], environment).chosen(["a"])
    assert "\n" not in caught.value.message


def test_a_list_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "a.hcl").write_text(VERSIONS[0])
    assert BakeFile([str(tmp_path / "a.hcl")], {"PYTHONS": "3.13, 3.14"}).asked(["py"]) == [
        "py-3-13-slim", "py-3-13-alpine", "py-3-14-slim", "py-3-14-alpine",
    ]  # fmt: skip
    assert BakeFile([str(tmp_path / "a.hcl")], {"PYTHONS": ""}).asked(["py"]) == []
