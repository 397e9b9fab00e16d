"""Run steps with an OCI runtime (runc or crun) that is installed on the host."""
