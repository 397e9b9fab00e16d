"""Who we are to a registry: anonymous, Basic, or a bearer token from its token server.

Rules that keep a password where it belongs (RFC 9110; distribution "token authentication"):

- credentials go only to the origin (scheme, host, port) of the registry, and to a token server that is its neighbour;
- a token server (``realm``) speaks https, except beside a registry that itself is spoken to in plain HTTP;
- a token server on a foreign host is asked anonymously, unless the configuration names it: what a stranger's header says must not move a
  password;
- we ask for the rights we need, whatever the challenge suggests.
"""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from img_core.images import oci
from img_core.net.hosts import authority, is_insecure, is_loopback, is_same_site, origin
from img_core.net.retry import Failure
from img_core.spec.dataclass import dataclass
from img_core.spec.errors import CredentialsError, ImgError
from img_core.spec.text import show
from img_registry_oci._errors import failure_of_status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from img_core.net.transport import Http, Response
    from img_core.spec.values import Credentials

__all__ = ["Authenticator", "Challenge", "lacking_rights", "parse_challenges"]

_TOKEN_ANSWER_LIMIT = 1024 * 1024
_CHALLENGE_LIMIT = 16 * 1024
_DEFAULT_LIFE = 60.0  # seconds; what the token specification says when the answer does not
_CLIENT_ID = "img"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a ``WWW-Authenticate`` header; scheme and parameter names in lower-case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Token:
    header: str = field(repr=False)
    expires: float  #: on the monotonic clock


class Authenticator:
    """Knows, for one registry and one set of credentials, which ``Authorization`` to send. Safe to use from several threads."""

    def __init__(
        self,
        http: Http,
        *,
        server: str,
        base: str,
        credentials: Callable[[], Credentials | None],
        insecure: Collection[str],
        token_servers: Collection[str] = (),
    ) -> None:
        self._http = http
        self._server = server  # as in references: what people know it by
        self._base = base  # scheme://host[:port]
        self._ask_credentials = credentials
        self._asked = False
        self._credentials: Credentials | None = None
        self._insecure = insecure
        self._token_servers = token_servers  # host[:port] that may see the password although they are no neighbours
        self._basic: str | None = None
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    def header(self, scope: str) -> str | None:
        """Return the ``Authorization`` to send for *scope* (``repository:path:actions …``) as far as known, or None."""
        token = self._tokens.get(scope)
        if token is not None and token.expires > time.monotonic():
            return token.header
        return self._basic

    def answer(self, response: Response, scope: str, *, sent: str | None) -> tuple[str, bool]:
        """Return a new ``Authorization`` after *response* (401) refused *sent*; asks the token server if there is one.

        The second value tells whether it was made for this call; else another thread got it a moment ago.

        Raises `CredentialsError` if nothing better is known, `Failure` if the token server cannot be asked.
        """
        with self._lock:  # threads that were refused at the same time share one new token
            known = self.header(scope)
            if known is not None and known != sent:
                return known, False
            if not self._asked:  # not before it is needed: a credential helper may take seconds, or a touch on a key
                self._credentials, self._asked = self._ask_credentials(), True
            if (bearer := self._given_token()) is not None and bearer != sent:
                return bearer, True
            challenges = parse_challenges(response.headers("www-authenticate"))
            for challenge in challenges:
                if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                    return self._fetch_token(challenge, scope), True
            if any(challenge.scheme == "basic" for challenge in challenges):
                return self._use_basic(sent), True
        raise CredentialsError(f"`{self._server}` refuses access and does not say how to log in")

    def _given_token(self) -> str | None:
        """Return the token that the user was given for this registry; unlike a password it works for nothing else, so it is tried first."""
        if self._credentials is None or not self._credentials.registry_token:
            return None
        self._basic = f"Bearer {self._credentials.registry_token}"
        return self._basic

    def refusal(self, repository: str, reason: str = "") -> CredentialsError:
        """Return the error for a 401 in answer to the best that we have; *reason* is the registry's, if it gave one."""
        what = f"`{repository}` of `{self._server}`" if repository else f"`{self._server}`"
        told = f": {reason}" if reason else ""
        if self._credentials is None:
            return CredentialsError(f"{what} does not exist or needs a login{told}", hint=self._login_hint)
        return CredentialsError(f"{what} refused the login{self._who}{told}", hint=self._login_hint)

    @property
    def _login_hint(self) -> str:
        return f"run `img login {self._server}`"

    @property
    def _who(self) -> str:
        return f" of `{show(self._credentials.username)}`" if self._credentials and self._credentials.username else ""

    def _use_basic(self, sent: str | None) -> str:
        if self._credentials is None or not self._credentials.username:
            raise CredentialsError(f"`{self._server}` wants a login", hint=self._login_hint)
        self._basic = _basic_header(self._credentials)
        if self._basic == sent:
            raise CredentialsError(f"`{self._server}` refused the login{self._who}", hint=self._login_hint)
        return self._basic

    def _fetch_token(self, challenge: Challenge, scope: str) -> str:
        realm = challenge.parameters["realm"]
        credentials = self._credentials if self._may_see_password(realm) else None
        query = [("service", challenge.parameters["service"])] if challenge.parameters.get("service") else []
        query += [("scope", wanted) for wanted in (*scope.split(), _foreign_scope(challenge)) if wanted]
        if credentials is not None and credentials.identity_token:
            response = self._post(realm, query, credentials)
        else:
            response = self._get(realm, query, credentials)
        with response:
            self._check_status(response, realm, withheld=self._credentials is not None and credentials is None)
            token = self._read_token(response, realm)
        self._tokens[scope] = token
        return token.header

    def _get(self, realm: str, query: list[tuple[str, str]], credentials: Credentials | None) -> Response:
        headers = {"Accept": "application/json"}
        if credentials is not None and credentials.username:
            headers["Authorization"] = _basic_header(credentials)
            query = [("account", credentials.username), *query]
        separator = "&" if urlsplit(realm).query else "?"
        return self._http.send("GET", f"{realm}{separator}{urlencode(query)}", headers)

    def _post(self, realm: str, query: list[tuple[str, str]], credentials: Credentials) -> Response:
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", credentials.identity_token),
            ("client_id", _CLIENT_ID),
        ]
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        return self._http.send("POST", realm, headers, urlencode([*form, *query]).encode())

    def _may_see_password(self, realm: str) -> bool:
        """Check *realm* and tell whether the password may go there. Raises `CredentialsError` for a realm not to be asked at all."""
        where, base = origin(realm), origin(self._base)
        if where is None or base is None or urlsplit(realm).username is not None:
            raise CredentialsError(f"`{self._server}` names a token server that is no address: `{show(realm)}`")
        trusted = where.host in self._token_servers or authority(realm) in self._token_servers
        neighbour = trusted or is_same_site(where.host, base.host)
        if where.scheme == "http":
            plain_is_fine = (is_loopback(where.host) and is_loopback(base.host)) or is_insecure(
                authority(realm), self._insecure
            )
            if base.scheme != "http" or not plain_is_fine:
                raise CredentialsError(
                    f"`{self._server}` wants us to log in over plain HTTP at `{authority(realm)}`, where others could listen"
                )
        return neighbour

    def _check_status(self, response: Response, realm: str, *, withheld: bool) -> None:
        if response.status == 200:
            return
        where = authority(realm)
        if response.status in {400, 401, 403} and withheld:
            raise CredentialsError(
                f"`{self._server}` wants the password sent to `{where}`, which is not its own host; it was not sent",
                hint="if that is right, name it in `token-servers` of registries.toml",
            )
        if response.status in {400, 401, 403}:
            who = (
                f" of `{show(self._credentials.username)}`" if self._credentials and self._credentials.username else ""
            )
            reason = f"refused the login{who}" if self._credentials else "wants a login"
            raise CredentialsError(
                f"the token server `{where}` of `{self._server}` {reason} (HTTP status {response.status})",
                hint=self._login_hint,
            )
        raise failure_of_status(response, f"its token server `{where}`")

    def _read_token(self, response: Response, realm: str) -> _Token:
        name = f"the answer of the token server `{authority(realm)}`"
        content = response.read(_TOKEN_ANSWER_LIMIT)
        try:
            answer = oci.load_json(content, name=name) if content is not None else None
        except ImgError as error:
            raise Failure(error.message, transient=False) from None
        fields = answer if isinstance(answer, dict) else {}
        text = fields.get("token") or fields.get("access_token")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise Failure(f"{name} holds no token", transient=False)
        life = fields.get("expires_in")
        seconds = float(life) if isinstance(life, int | float) and 0 < life < 10**7 else _DEFAULT_LIFE
        return _Token(f"Bearer {text}", time.monotonic() + max(seconds - 5, seconds / 2))


def _basic_header(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _foreign_scope(challenge: Challenge) -> str:
    """Return the challenge's scope unless it is about repositories, whose rights we choose ourselves (``aws`` is no such)."""
    scope = challenge.parameters.get("scope", "")
    return "" if scope.startswith("repository:") else scope


def lacking_rights(response: Response) -> str:
    """Return what a 401 says about rights that our token lacks (RFC 6750, 3.1), in the words people know; empty if nothing."""
    for challenge in parse_challenges(response.headers("www-authenticate")):
        if challenge.parameters.get("error") == "insufficient_scope":
            return "insufficient_scope: authorization failed"
    return ""


# --- WWW-Authenticate ---------------------------------------------------------------------------------------------------


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Read all ``WWW-Authenticate`` headers (RFC 9110, 11.6.1); what cannot be read is left out."""
    challenges: list[Challenge] = []
    for value in values:
        challenges += _parse_header(value[:_CHALLENGE_LIMIT])
    return challenges


def _parse_header(value: str) -> list[Challenge]:
    """Read ``scheme key=value, key="value", scheme key=value``: a word without ``=`` starts a challenge."""
    found: list[tuple[str, dict[str, str]]] = []
    for item in _split_outside_quotes(value):
        words, equals, text = item.partition("=")
        scheme, _, key = words.strip().rpartition(" ") if equals else (words.strip().partition(" ")[0], "", "")
        if scheme:
            found.append((scheme.strip().lower(), {}))
        if equals and found and key.strip():
            found[-1][1].setdefault(key.strip().lower(), _unquote(text.strip()))
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _split_outside_quotes(value: str) -> list[str]:
    items: list[str] = []
    current: list[str] = []
    quoted = escaped = False
    for character in value:
        if character == "," and not quoted:
            items.append("".join(current))
            current = []
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = quoted and character == "\\" and not escaped
        current.append(character)
    return [item.strip() for item in [*items, "".join(current)] if item.strip()]


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    plain: list[str] = []
    escaped = False
    for character in text[1:-1]:
        escaped = character == "\\" and not escaped
        if not escaped:
            plain.append(character)
    return "".join(plain)
