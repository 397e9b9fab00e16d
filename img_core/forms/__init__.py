"""Values in other forms, checked on the way back: words of people, TOML, plans and events as JSON, options by a schema, arguments."""

__all__ = ["arguments", "event_lines", "options", "plan_json", "rewriting", "tasks", "toml", "typed_json", "words"]
__version__ = "1.0"
