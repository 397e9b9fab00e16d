"""Run steps with the runc that this distribution carries."""
