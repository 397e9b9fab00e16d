"""Credentials in the keyring of the desktop."""
