"""Wrong Dockerfiles that planning refuses, and what it says: by their names in docs/reference/dockerfile-cases.md.

The unit tests plan them, the integration tests build them. ``FROM b`` names an image that is there.
"""

import pytest

__all__ = ["MISTAKES", "P"]

P = "dockerfile parse error on line {}: ".format

MISTAKES = [
    pytest.param("", "the Dockerfile cannot be empty", id="empty"),
    pytest.param("# a\n\n  # b\n", "file with no instructions", id="only-comments"),
    pytest.param("ARG A=1", "dockerfile contains no stages to build", id="only-arg"),
    pytest.param("ARG A\nRUN x\nFROM b", "no build stage in current context", id="before-from"),
    pytest.param("FRMO busybox", P(1) + "unknown instruction: FRMO (did you mean FROM?)", id="frmo"),
    pytest.param("FROM b\nRUNN echo", P(2) + "unknown instruction: RUNN (did you mean RUN?)", id="runn"),
    pytest.param("FROM b\nQQQQQ x", P(2) + "unknown instruction: QQQQQ", id="nothing-near"),
    pytest.param("FROM a b", P(1) + "FROM requires either one or three arguments", id="from-two"),
    pytest.param("FROM", P(1) + "FROM requires either one or three arguments", id="from-none"),
    pytest.param(
        "FROM x AS 1x",
        P(1) + 'invalid name for build stage: "1x", name can\'t start with a number or contain symbols',
        id="stage-name",
    ),
    pytest.param("FROM $IMG", "base name ($IMG) should not be blank", id="blank-base"),
    pytest.param(
        "FROM h.example/UPPER",
        'failed to parse stage name "h.example/UPPER": '
        "invalid reference format: repository name (UPPER) must be lowercase",
        id="upper-case-image",
    ),
    pytest.param(
        "FROM --platform=a/b/c/d x",
        'failed to parse platform a/b/c/d: "a/b/c/d": cannot parse platform specifier: invalid argument',
        id="platform",
    ),
    pytest.param("FROM --platform=$NOPE x", "empty platform value from expression $NOPE", id="empty-platform"),
    pytest.param(
        "FROM --platform=$BULIDPLATFORM x",
        "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)",
        id="empty-platform-suggestion",
    ),
    pytest.param(
        "ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH} x",
        'failed to parse platform linux/: "" is an invalid component of "linux/": platform specifier component '
        'must match "^[A-Za-z0-9_.-]+$": invalid argument (did you mean MY_ARCH?)',
        id="platform-suggestion",
    ),
    pytest.param("FROM b\nCOPY --from=5 x /", "invalid stage index 5", id="stage-index"),
    pytest.param(
        "FROM b AS a\nCOPY --from=b x /\nFROM b AS b\nFROM a",
        'cannot copy from stage "b", it needs to be defined before current stage "a"',
        id="later-stage",
    ),
    pytest.param(
        "FROM b AS a\nCOPY --from=b x /\nFROM b AS b\nCOPY --from=a x /",
        "circular dependency detected on stage: a",
        id="circle",
    ),
    pytest.param("FROM b AS a\nCOPY --from=a x /", "circular dependency detected on stage: a", id="itself"),
    pytest.param(
        "FROM b\nCOPY --from=$S a b",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope "
        "as a workaround",
        id="variable-in-from",
    ),
    pytest.param(
        "FROM b\n\nRUN --mount=from=$S x",
        P(3) + "'from' doesn't support variable expansion, define alias stage instead",
        id="variable-in-mount-from",
    ),
    pytest.param(
        "FROM b\nCOPY a",
        P(2) + "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        id="copy-one",
    ),
    pytest.param(
        "FROM b\nADD a",
        P(2) + "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        id="add-one",
    ),
    pytest.param("FROM b\nCOPY --chwon=1 a b", P(2) + "unknown flag: --chwon (did you mean chown?)", id="unknown-flag"),
    pytest.param("FROM b\nCOPY --chown a b", P(2) + "missing a value on flag: --chown", id="flag-without-value"),
    pytest.param("FROM b\nCOPY --chown=1 --chown=2 a b", P(2) + "duplicate flag specified: --chown", id="flag-twice"),
    pytest.param(
        "FROM b\nCOPY --link=yes a b", P(2) + "expecting boolean value for flag --link, not: yes", id="boolean"
    ),
    pytest.param(
        "FROM b\nCOPY --chmod=99 a b",
        "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777",
        id="chmod-99",
    ),
    pytest.param(
        "FROM b\nCOPY --chmod=10000 a b",
        "invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777",
        id="chmod-10000",
    ),
    pytest.param("FROM b\nCOPY --chmod=zz a b", "invalid chmod parameter: 'zz'. invalid syntax", id="chmod-zz"),
    pytest.param(
        "FROM scratch\nCOPY --chown=name a b",
        "invalid user in --chown=name: names cannot be looked up on an empty root",
        id="name-on-scratch",
    ),
    pytest.param("FROM b\nCOPY https://h/x /x", "source can't be a URL for COPY", id="copy-url"),
    pytest.param("FROM b\nCOPY https://h/x.git /x", "source can't be a git ref for COPY", id="copy-git"),
    pytest.param("FROM b\nCOPY git@h:x /x", "source can't be a git ref for COPY", id="copy-git-ssh"),
    pytest.param("FROM b\nADD --checksum=1 http://h/x /x", "invalid checksum digest format", id="checksum-format"),
    pytest.param(
        "FROM b\nADD --checksum=sha256:0 a /x", "checksum requires HTTP(S) or Git sources", id="checksum-local"
    ),
    pytest.param(
        "FROM b\nADD --checksum=sha256:0 a b /x/",
        "checksum can't be specified for multiple sources",
        id="checksum-several",
    ),
    pytest.param("FROM b\nADD https://h/r.git?foo=1 /x", 'unexpected query "foo"', id="AD18"),
    pytest.param("FROM b\nCOPY a <<E\nE", P(2) + "COPY cannot accept a heredoc as a destination", id="HD9-destination"),
    pytest.param(
        "FROM b\nCOPY <<E\nfoo\nE",
        P(2) + "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        id="HD9-alone",
    ),
    pytest.param("FROM b\nCOPY <<E /x\nfoo", "unterminated heredoc", id="open-heredoc"),
    pytest.param("FROM b\nRUN --network=foo x", P(2) + 'invalid network mode "foo"', id="network"),
    pytest.param("FROM b\nRUN --security=foo x", P(2) + 'security "foo" is not valid', id="security"),
    pytest.param(
        "FROM b\nRUN --device=x y",
        "device feature is only supported in Dockerfile frontend 1.14.0-labs or later",
        id="device",
    ),
    pytest.param("FROM b\nRUN --mount=type=foo x", 'unsupported mount type "foo"', id="mount-type"),
    pytest.param(
        "FROM b\nRUN --mount=targt=/x x",
        "unexpected key 'targt' in 'targt=/x' (did you mean target?)",
        id="mount-key",
    ),
    pytest.param("FROM b\nRUN --mount=foo x", "invalid field 'foo' must be a key=value pair", id="mount-word"),
    pytest.param(
        "FROM b\nRUN --mount=size=1,target=/x x",
        "unexpected key 'size' for mount type 'bind'",
        id="mount-other-key",
    ),
    pytest.param("FROM b\nRUN --mount=mode=1,target=/x x", 'mode not allowed for "bind" type mounts', id="mount-mode"),
    pytest.param(
        "FROM b\nRUN --mount=type=cache,sharing=foo,target=/x x",
        'unsupported sharing value "foo"',
        id="mount-sharing",
    ),
    pytest.param(
        "FROM b\nRUN --mount=sharing=locked,target=/x x",
        "invalid cache sharing set for bind mount",
        id="mount-sharing-on-bind",
    ),
    pytest.param(
        "FROM b\nRUN --mount=type=tmpfs,mode=1,target=/x x",
        'mode not allowed for "tmpfs" type mounts',
        id="mount-mode-of-tmpfs",
    ),
    pytest.param(
        "FROM b\nRUN --mount=type=cache,target=/c,source=d x", "source of a cache mount needs from", id="cache-source"
    ),
    pytest.param(
        "FROM b\nRUN --mount=type=secret,id=a,from=b x", "secret mount should not have a from", id="secret-from"
    ),
    pytest.param(
        "FROM b\nRUN --mount=type=secret,id=a,source=b x", "both source and id can't be set", id="secret-twice"
    ),
    pytest.param("FROM b\nRUN --mount=type=ssh,source=b x", "ssh does not support source", id="ssh-source"),
    pytest.param(
        "FROM b\nRUN --mount=required,target=/x x",
        "unexpected key 'required' for mount type 'bind'",
        id="mount-required",
    ),
    pytest.param('FROM b\nRUN --mount=\\"target=/x y', 'invalid mount "\\"target=/x": quote is not closed', id="csv"),
    pytest.param("FROM b\nRUN --mount=type=bind x", 'invalid mount target "/"', id="MT5-none"),
    pytest.param("FROM b\nRUN --mount=target=/ x", 'invalid mount target "/"', id="MT5-root"),
    pytest.param(
        "FROM b\nRUN --mount=type=secret x", "invalid secret mount. one of source, target required", id="secret"
    ),
    pytest.param("FROM b\nENV A", "ENV must have two arguments", id="env-one"),
    pytest.param("FROM b\nLABEL a", "LABEL must have two arguments", id="label-one"),
    pytest.param(
        "FROM b\nENV A=1 B",
        'Syntax error - can\'t find = in "B". Must be of the form: name=value',
        id="env-no-equals",
    ),
    pytest.param("FROM b\nENV =x", P(2) + "ENV names can not be blank", id="env-blank"),
    pytest.param("FROM b\nARG =x", P(2) + "ARG names can not be blank", id="arg-blank"),
    pytest.param("FROM b\nSHELL /bin/bash", P(2) + "SHELL requires the arguments to be in JSON form", id="shell"),
    pytest.param("FROM b\nEXPOSE foo", "invalid containerPort: foo", id="expose-word"),
    pytest.param("FROM b\nEXPOSE 90-80", "invalid containerPort: 90-80", id="expose-range"),
    pytest.param("FROM b\nEXPOSE 70000", "invalid containerPort: 70000", id="expose-large"),
    pytest.param("FROM b\nEXPOSE 80/foo", 'invalid port: "80/foo": invalid proto: foo', id="expose-protocol"),
    pytest.param('FROM b\nVOLUME [""]', P(2) + "VOLUME specified can not be an empty string", id="volume-empty"),
    pytest.param("FROM b\nVOLUME $UNSET", "VOLUME specified can not be an empty string", id="volume-unset"),
    pytest.param("FROM b\nSTOPSIGNAL FOO", "invalid signal: FOO", id="signal"),
    pytest.param("FROM b\nSTOPSIGNAL 0", "invalid signal: 0", id="signal-zero"),
    pytest.param(
        "FROM b\nHEALTHCHECK FOO", P(2) + 'Unknown type "FOO" in HEALTHCHECK (try CMD)', id="healthcheck-type"
    ),
    pytest.param("FROM b\nHEALTHCHECK CMD", P(2) + "Missing command after HEALTHCHECK CMD", id="healthcheck-command"),
    pytest.param("FROM b\nHEALTHCHECK NONE x", P(2) + "HEALTHCHECK NONE takes no arguments", id="healthcheck-none"),
    pytest.param(
        "FROM b\nHEALTHCHECK --interval=1us CMD x",
        P(2) + 'Interval "interval" cannot be less than 1ms',
        id="healthcheck-interval",
    ),
    pytest.param(
        "FROM b\nHEALTHCHECK --timeout=5 CMD x", P(2) + 'time: missing unit in duration "5"', id="healthcheck-unit"
    ),
    pytest.param(
        "FROM b\nHEALTHCHECK --retries=-1 CMD x",
        P(2) + "--retries cannot be negative (-1)",
        id="healthcheck-retries",
    ),
    pytest.param(
        "FROM b\nONBUILD ONBUILD RUN x", P(2) + "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", id="onbuild"
    ),
    pytest.param("FROM b\nONBUILD FROM x", P(2) + "FROM isn't allowed as an ONBUILD trigger", id="onbuild-from"),
    pytest.param(
        "FROM b\nONBUILD maintainer x", P(2) + "MAINTAINER isn't allowed as an ONBUILD trigger", id="onbuild-author"
    ),
    pytest.param("# escape=x\nFROM b", "invalid escape token 'x' does not match ` or \\", id="escape"),
    pytest.param("# escape=`\n# escape=`\nFROM b", "only one escape parser directive can be used", id="escape-twice"),
    pytest.param("# check=foo\nFROM b", 'failed to parse check options: invalid check option "foo"', id="check-option"),
    pytest.param(
        "# check=error=true\nFROM b\nENV a b",
        "lint violation found for rules: LegacyKeyValueFormat",
        id="check-error",
    ),
    *(
        pytest.param(f'FROM b\n{name} ["a", "b\\u0000"]', "NUL byte in the JSON form", id=f"nul-{name}")
        for name in ("RUN", "CMD", "COPY", "ADD", "VOLUME", "SHELL")
    ),
    pytest.param("FROM b\nRUN []", "RUN names no program", id="run-nothing"),
    pytest.param("FROM b\nCOPY --exclude=[a x /", "--exclude: syntax error in pattern: `[a`", id="exclude"),
    pytest.param(
        'FROM b\nCMD ["a",1]', "when using JSON array syntax, arrays must be comprised of strings only", id="PA20"
    ),
    pytest.param("FROM b\nENV A=${X", "failed to process \"${X\": syntax error: missing '}'", id="open-brace"),
    pytest.param("FROM b\nENV A=${}", 'failed to process "${}": syntax error: bad substitution', id="empty-brace"),
    pytest.param(
        "FROM b\nENV A=${s^^}", 'failed to process "${s^^}": unsupported modifier (^) in substitution', id="modifier"
    ),
    pytest.param("FROM b\nENV A=${V:?need-V}", 'failed to process "${V:?need-V}": V: need-V', id="required"),
    pytest.param("FROM b\nENV A=${V?}", 'failed to process "${V?}": V: is not allowed to be unset', id="required-set"),
    pytest.param(
        "FROM b\nENV Z=\nENV A=${Z:?}",
        'failed to process "${Z:?}": Z: is not allowed to be empty',
        id="required-filled",
    ),
    pytest.param(
        'FROM b\nENV A="abc',
        'failed to process "\\"abc": unexpected end of statement while looking for matching double-quote',
        id="double-quote",
    ),
    pytest.param(
        "FROM b\nENV A='abc",
        'failed to process "\'abc": unexpected end of statement while looking for matching single-quote',
        id="single-quote",
    ),
    pytest.param("# syntax=example.com/front:1\nFROM b", "unknown frontend `example.com/front:1`", id="syntax-image"),
    *(
        pytest.param(f"FROM b\n{name}", P(2) + f"{name} requires at least one argument", id=f"no-argument-{name}")
        for name in ("ENV", "LABEL", "ARG", "EXPOSE", "VOLUME", "ONBUILD", "HEALTHCHECK", "SHELL")
    ),
    *(
        pytest.param(f"FROM b\n{name}", P(2) + f"{name} requires exactly one argument", id=f"no-argument-{name}")
        for name in ("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER")
    ),
]
