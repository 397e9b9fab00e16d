"""``oci``: registries that speak the distribution protocol."""

from img_core.spec import Registry, hookimpl


@hookimpl
def img_registry() -> type[Registry]:
    """Return the registry class."""
    from img_registry_oci._registry import OciRegistry

    return OciRegistry
