"""AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 signing process"), for S3."""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from img_core.spec.errors import UsageError
from img_core.spec.text import show_path

__all__ = ["EMPTY", "Keys", "find_keys", "signed"]

EMPTY = hashlib.sha256(b"").hexdigest()
_SERVICE = "s3"


@dataclass(frozen=True, slots=True)
class Keys:
    """Who we are to the service."""

    access: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


def find_keys(options: Mapping[str, str], environment: Mapping[str, str]) -> Keys | None:
    """Return the keys of *options*, else those of the environment, else those of the user's file; None if there are none.

    Raises UsageError for half a pair, and for a profile that does not exist.
    """
    names = ("access_key_id", "secret_access_key", "session_token")
    for given in (
        {name: options.get(name, "") for name in names},
        {name: environment.get(f"AWS_{name.upper()}", "") for name in names},
    ):
        if bool(given["access_key_id"]) != bool(given["secret_access_key"]):
            raise UsageError("of the two keys of S3 one is missing", hint="`access_key_id` and `secret_access_key`")
        if given["access_key_id"]:
            return Keys(given["access_key_id"], given["secret_access_key"], given["session_token"])
    return _keys_of_file(environment)


def _keys_of_file(environment: Mapping[str, str]) -> Keys | None:
    home = environment.get("HOME") or os.path.expanduser("~")
    path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(home, ".aws", "credentials")
    profile = environment.get("AWS_PROFILE") or "default"
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError, OSError) as err:
        reason = str(err).splitlines()[0]
        raise UsageError(f"cannot read the keys of S3 from `{show_path(path)}`: {reason}") from None
    if not parser.has_section(profile):
        if environment.get("AWS_PROFILE"):
            raise UsageError(f"there is no profile `{profile}` in `{show_path(path)}`")
        return None
    access = parser.get(profile, "aws_access_key_id", fallback="")
    secret = parser.get(profile, "aws_secret_access_key", fallback="")
    return Keys(access, secret, parser.get(profile, "aws_session_token", fallback="")) if access and secret else None


def signed(
    method: str, url: str, headers: Mapping[str, str], *, keys: Keys | None, region: str, now: datetime | None = None
) -> dict[str, str]:
    """Return *headers* with a signature for *url*; without *keys* as they are, for buckets that everybody may read.

    The header ``x-amz-content-sha256`` tells the digest of the body; without it there is none.
    """
    parts = urlsplit(url)
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    sent = {"x-amz-content-sha256": EMPTY, **headers}
    if keys is None:
        return sent
    sent |= {"x-amz-date": stamp, **({"x-amz-security-token": keys.token} if keys.token else {})}
    counted = {name.lower(): " ".join(value.split()) for name, value in {**sent, "host": parts.netloc}.items()}
    counted = {name: value for name, value in sorted(counted.items()) if name == "host" or name.startswith("x-amz-")}
    names = ";".join(counted)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    request = "\n".join(
        (
            method,
            parts.path or "/",
            "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query),
            *(f"{name}:{value}" for name, value in counted.items()),
            "",
            names,
            sent["x-amz-content-sha256"],
        )
    )
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys.secret}".encode()
    for part in (stamp[:8], region, _SERVICE, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={keys.access}/{scope}"
    sent["Authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return sent


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")
