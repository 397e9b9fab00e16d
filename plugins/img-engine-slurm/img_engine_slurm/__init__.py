"""``--engine slurm``: parts of builds on the nodes of a Slurm cluster."""
