"""Values in other forms, checked on the way back: words of people, TOML, JSON by types, options by a schema, arguments of callers."""

__all__ = ["arguments", "options", "toml", "typed_json", "words"]
__version__ = "1.0"
