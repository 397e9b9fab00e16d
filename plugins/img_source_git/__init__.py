"""Files from git repositories."""
