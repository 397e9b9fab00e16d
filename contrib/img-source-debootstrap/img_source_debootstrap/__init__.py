"""Bases for builds of img that come from a Debian mirror, without a registry."""
