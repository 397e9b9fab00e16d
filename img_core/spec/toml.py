"""What is in `img_core.forms.toml` now, for plugins that were written for 0.1.0; it goes with version 3 of the contracts."""

from img_core.spec._lazy import names_from

__getattr__ = names_from(__name__, {"img_core.forms.toml": ("read_toml",)})
