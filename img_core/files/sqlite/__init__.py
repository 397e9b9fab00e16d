"""One SQLite file for any number of processes: it survives full disks, kill -9 and damage, and brings older versions up to date."""

from img_core.files.sqlite._database import SUSPECT, Database, Schema, set_aside
from img_core.files.sqlite._ways import DamagedError, Purpose, Way, immutable_uri, is_damage

__all__ = ["SUSPECT", "DamagedError", "Database", "Purpose", "Schema", "Way", "immutable_uri", "is_damage", "set_aside"]
