"""Running steps with an OCI runtime: what executors share that differ only in where their runtime comes from.

Empty on purpose: processes of the zygote import only the supervisor.
"""
