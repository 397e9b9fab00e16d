"""What is in `img_core.forms.words` now, for plugins that were written for 0.1.0; it goes with version 3 of the contracts."""

from img_core.spec._lazy import names_from

_NAMES = "RecordError binary_size budget_bytes edits key_values parse_size split_record truth"
__getattr__ = names_from(__name__, {"img_core.forms.words": tuple(_NAMES.split())})
