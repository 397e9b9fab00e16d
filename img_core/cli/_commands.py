"""The table of commands: what they are called, where they live, and their line in the overview. Nothing is imported from here."""

from __future__ import annotations

from img_core.spec.dataclass import dataclass

__all__ = ["ALIASES", "COMMANDS", "GROUPS", "GROUP_COMMANDS", "HELP", "CommandEntry", "is_taken"]


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """*module* has a click command called ``command``; it is imported when the command runs."""

    module: str
    short: str


COMMANDS = {
    "bake": CommandEntry("img_core.cli.bake", "Build the images that a file lists, together"),
    "build": CommandEntry("img_core.cli.build", "Build an image from a Dockerfile"),
    "builds": CommandEntry("img_core.cli.builds", "List recent builds and show their logs"),
    "cache": CommandEntry("img_core.cli.cache", "Look at a cache that builds on many machines share"),
    "completion": CommandEntry("img_core.cli.completion", "Print a script that completes command lines in a shell"),
    "debug": CommandEntry("img_core.cli.debug", "Open a shell in what the last failed step left"),
    "doctor": CommandEntry("img_core.cli.doctor", "Check what this host offers and what would make builds better"),
    "du": CommandEntry("img_core.cli.du", "Show image disk usage"),
    "engines": CommandEntry(
        "img_core.cli.engines", "List engines and their workers, which do parts of builds elsewhere"
    ),
    "fsck": CommandEntry("img_core.cli.fsck", "Check what is stored and repair what can be repaired"),
    "history": CommandEntry("img_core.cli.history", "Show the history of an image"),
    "import": CommandEntry("img_core.cli.import_", "Make an image from a tar archive of a root file system"),
    "inspect": CommandEntry("img_core.cli.inspect", "Show the configuration of an image as JSON"),
    "load": CommandEntry("img_core.cli.load", "Load images from a tar archive made by save"),
    "lock": CommandEntry(
        "img_core.cli.lock", "Write the digests of all that a Dockerfile takes from outside to a lock file"
    ),
    "login": CommandEntry("img_core.cli.login", "Log in to a Docker registry"),
    "logout": CommandEntry("img_core.cli.logout", "Log out from a Docker registry"),
    "logs": CommandEntry("img_core.cli.logs", "Show the log of a build"),
    "ls": CommandEntry("img_core.cli.ls", "List images and digests"),
    "plugins": CommandEntry("img_core.cli.plugins", "List plugins and tell what they offer"),
    "prune": CommandEntry("img_core.cli.prune", "Prune and clean up the build cache"),
    "pull": CommandEntry("img_core.cli.pull", "Pull an image or a repository from a registry"),
    "push": CommandEntry("img_core.cli.push", "Push an image or a repository to a registry"),
    "rm": CommandEntry("img_core.cli.rm", "Remove one or more images"),
    "save": CommandEntry("img_core.cli.save", "Save an image to a tar archive (streamed to STDOUT by default)"),
    "tag": CommandEntry("img_core.cli.tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "unpack": CommandEntry("img_core.cli.unpack", "Unpack an image to a rootfs directory"),
    "version": CommandEntry("img_core.cli.version", "Show the version information"),
    "worker": CommandEntry("img_core.cli.worker", "Do a part of somebody's build, as engines start it"),
}

#: Commands of groups only: docker's words for what removes less than `img prune` does.
GROUP_COMMANDS = {
    "bake": CommandEntry("img_core.cli.bake", "Build the images that a file lists, together"),
    "builder prune": CommandEntry("img_core.cli.builder_prune", "Remove build cache that no image shares"),
    "image prune": CommandEntry("img_core.cli.image_prune", "Remove images without a name"),
    "system prune": CommandEntry("img_core.cli.system_prune", "Remove images without a name and build cache"),
}

#: What docker calls some of them.
ALIASES = {"images": "ls", "list": "ls", "rmi": "rm", "remove": "rm"}

#: docker's groups of commands: group to (word to our command).
GROUPS = {
    "builder": {"build": "build", "prune": "builder prune"},
    "buildx": {"bake": "bake", "build": "build", "du": "du", "history": "builds", "prune": "builder prune"},
    "image": {
        "build": "build",
        "history": "history",
        "import": "import",
        "inspect": "inspect",
        "list": "ls",
        "load": "load",
        "ls": "ls",
        "prune": "image prune",
        "pull": "pull",
        "push": "push",
        "rm": "rm",
        "save": "save",
        "tag": "tag",
    },
    "system": {"df": "du", "prune": "system prune"},
}

#: The command that shows help pages.
HELP = "help"


def is_taken(word: str) -> bool:
    """Tell whether *word* can be no command of a plugin: it is one of ours, or no word at all."""
    return word in COMMANDS or word in ALIASES or word in GROUPS or word == HELP or word.startswith("-")
