"""Registries that speak the protocol of Docker and OCI. The HTTP library is loaded with the first request."""
