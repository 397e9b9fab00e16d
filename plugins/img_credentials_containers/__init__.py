"""Credentials as podman, buildah and skopeo keep them."""
