pytest_plugins = ["img_core.testing"]
