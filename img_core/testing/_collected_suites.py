"""What pytest collects for `img_core.testing.running`: the suites of the run, which exist in memory only."""

from img_core.testing.running import collected

globals().update(collected())
