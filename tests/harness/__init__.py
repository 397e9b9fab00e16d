"""What the acceptance tests share: the real command line, other people's tools, and an eye for what is left behind."""
