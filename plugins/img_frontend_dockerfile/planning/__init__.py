"""From instructions to vertices and image configs: stages, names, and what each instruction does."""
