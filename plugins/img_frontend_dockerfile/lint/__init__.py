"""What is worth a warning: the findings about a Dockerfile, and the rules that need no plan."""
