"""Limits of memory and processor time for steps, where the host lets us divide our own control group."""

from img_core.linux.cgroups.limits import Limits

__all__ = ["Limits"]
