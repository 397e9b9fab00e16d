"""kaniko's command line on top of ``img build``."""
