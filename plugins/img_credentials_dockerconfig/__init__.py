"""Credentials as Docker keeps them."""
