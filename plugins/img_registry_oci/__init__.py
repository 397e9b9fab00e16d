"""Registries that speak the protocol of Docker and OCI. What speaks TLS is loaded with the first request that needs it."""
