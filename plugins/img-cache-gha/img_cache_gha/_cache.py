"""The backend of GitHub's cache service: options, and where they lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from img_cache_gha._entries import Entries
from img_cache_gha._service import Service, ServiceV1, ServiceV2
from img_core.forms.words import truth
from img_core.net.hosts import origin
from img_core.spec.cache import CacheContext, CacheLoad, CacheRecord, CacheReport
from img_core.spec.errors import UsageError
from img_core.spec.text import show
from img_lib_cache import options as shared
from img_lib_cache.backend import DocumentCache
from img_lib_cache.objects import Objects
from img_lib_cache.places import Place

if TYPE_CHECKING:
    from img_core.spec.exporter import ExportProgress

__all__ = ["GhaCache"]

_ELSEWHERE = (
    "type=gha does nothing outside of a job of GitHub Actions: ACTIONS_RUNTIME_TOKEN and the address are not set"
)


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


class GhaCache(DocumentCache):
    """Keeps records in entries of the cache service under ``scope``."""

    name = "gha"
    schema: ClassVar[Mapping[str, Any]] = shared.schema(  # Any: JSON Schema
        {
            "scope": _text("name of the cache; img by default"),
            "version": {"type": "string", "enum": ["1", "2"], "description": "protocol of the service"},
            "url": _text("address of the service, version 1; ACTIONS_CACHE_URL by default"),
            "url_v2": _text("address of the service, version 2; ACTIONS_RESULTS_URL by default"),
            "token": _text("ACTIONS_RUNTIME_TOKEN by default"),
            "timeout": _text("accepted"),
            "repository": _text("accepted"),
            "ghtoken": _text("accepted"),
        }
    )

    def __init__(self, context: CacheContext, options: Mapping[str, Any]) -> None:  # Any: JSON
        super().__init__(context, options)
        environment = context.host.environment
        self._token = str(options.get("token") or environment.get("ACTIONS_RUNTIME_TOKEN") or "")
        wanted = str(options.get("version") or "")
        second = wanted == "2" or (not wanted and bool(truth(environment.get("ACTIONS_CACHE_SERVICE_V2", ""))))
        results = environment.get("ACTIONS_RESULTS_URL") or ""
        first_url = str(options.get("url") or environment.get("ACTIONS_CACHE_URL") or results)
        second_url = str(options.get("url_v2") or (results if second else ""))
        self._protocol: type[Service] = ServiceV2 if second_url and wanted != "1" else ServiceV1
        self._url = second_url if self._protocol is ServiceV2 else first_url
        if self._url and origin(self._url) is None:
            raise UsageError(f"`{show(self._url)}` is no address of GitHub's cache service")
        self.location = f"{self.name} {self._url}" if self._url else ""

    @property
    def tag(self) -> str:
        """The option ``scope``."""
        return str(self.options.get("scope") or "img")

    @property
    def _is_there(self) -> bool:
        return bool(self._token and self._url)

    def load(self) -> CacheLoad:
        """Read the newest entry; outside of a job there is none."""
        return super().load() if self._is_there else CacheLoad(warnings=(_ELSEWHERE,))

    def save(self, records: Sequence[CacheRecord], progress: ExportProgress) -> CacheReport:
        """Write a new entry; outside of a job nothing."""
        return super().save(records, progress) if self._is_there else CacheReport(warnings=(_ELSEWHERE,))

    def open_place(self) -> Place:
        """Return the service."""
        token = self._token

        def sign(_method: str, _url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
            return {"Authorization": f"Bearer {token}", **headers}

        objects = Objects(self.context.host.environment, sign)
        return Entries(f"gha {self.tag}", self._protocol(objects, self._url.rstrip("/")), self.tag)
