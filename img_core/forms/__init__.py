"""Values in other forms, checked on the way back: words of people, TOML, plans, events and locks as JSON, options by a schema."""

__all__ = [
    "additions",
    "answers",
    "arguments",
    "checkout",
    "comparison",
    "event_lines",
    "lock",
    "options",
    "plan_json",
    "rewriting",
    "strict_json",
    "tasks",
    "together",
    "toml",
    "typed_json",
    "words",
]
__version__ = "1.1"
