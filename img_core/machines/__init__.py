"""Work that is divided between machines: plans and events as JSON, which parts of a graph can be done apart, and who does them."""

__all__ = ["cut", "event_lines", "plan_json", "pool", "tasks", "together"]
__version__ = "1.1"
