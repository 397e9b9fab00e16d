"""Values in other forms, checked on the way back: JSON by the types of fields, options by a JSON Schema, arguments of callers."""

__all__ = ["arguments", "options", "typed_json"]
__version__ = "1.0"
