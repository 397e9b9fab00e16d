"""Registries: the HTTP transport, authentication, pull and push. The HTTP library is loaded with the first request.

::

    with RegistryClient("quay.io", credentials=store.get) as client:
        content, media_type, digest = client.manifest("org/app", "latest")
        for chunk in client.blob("org/app", layer): …
"""

from __future__ import annotations

from img_core.net.registry._client import Fetched, RegistryClient
from img_core.net.registry._clients import Clients
from img_core.net.registry._push import Pushed, push_image
from img_core.net.registry._retry import Limits
from img_core.net.registry._upload import Uploaded

__all__ = ["Clients", "Fetched", "Limits", "Pushed", "RegistryClient", "Uploaded", "push_image"]
