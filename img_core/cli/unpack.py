"""``img unpack``: the root file system of an image as a directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from img_core.cli._base import Command, settings_of
from img_core.cli._images import find_image
from img_core.cli._output import echo, say
from img_core.kit.text import show
from img_core.spec.errors import ArchiveError, ImgError, UsageError

if TYPE_CHECKING:
    from img_core.spec.values import Descriptor, DiffId
    from img_core.store import Store
    from img_core.store.images import ImageContent

__all__ = ["command", "unpack_layers"]


@click.command("unpack", cls=Command)
@click.option(
    "--keep-owners", is_flag=True, help="give files the owners they have in the image (sub-ids) instead of yourself"
)
@click.option("-o", "--output", default="./rootfs", help="directory to unpack the rootfs to")
@click.option("--platform", default="", help="choose one platform of an image that has several")
@click.argument("names", nargs=-1, metavar="IMAGE")
@click.pass_context
def command(context: click.Context, keep_owners: bool, output: str, platform: str, names: tuple[str, ...]) -> None:
    """Unpack an image to a rootfs directory."""
    from img_core.kit import platforms

    if not names:
        raise UsageError("must pass an image to unpack as a rootfs")
    if not output:
        raise UsageError("`--output` is empty")
    if os.path.lexists(output):
        raise UsageError(f"destination directory already exists: {show(output)}")
    wanted = platforms.parse(platform) if platform else platforms.host_platform()
    from img_core.api.session import Session

    config = settings_of(context).config()
    with Session(config, namespace=True, notice=lambda text: say(f"warning: {text}")) as session:
        image = find_image(session.store, names[0], doing=f"unpacking {names[0]} failed")
        content = session.store.images.content(image.descriptor, wanted, names[0])
        _unpack(session.store, content, output, keep_owners=keep_owners and session.host.mapping != "single")
    echo(f"Successfully unpacked rootfs for {names[0]} to: {output}")


def _unpack(store: Store, content: ImageContent, output: str, *, keep_owners: bool) -> None:
    """Make *output* the root file system of *content*; it appears complete or not at all."""
    from img_core.kit import fs

    final = os.path.abspath(output)
    parent = os.path.dirname(final)
    temporary = os.path.join(parent, f".img-unpack-{os.getpid()}")
    try:
        with fs.disk_errors(output):
            os.makedirs(parent, exist_ok=True)
            fs.mkdir(temporary, 0o755)
            skipped = unpack_layers(store, content, temporary, keep_owners=keep_owners)
            fs.rename(temporary, final)
    except OSError as err:
        raise ImgError(f"cannot unpack to `{show(output)}`: {(err.strerror or str(err)).lower()}") from err
    finally:
        fs.remove_tree(temporary)
    if skipped:
        names = ", ".join(f"/{show(path)}" for path in skipped[:3])
        say(f"warning: {len(skipped)} devices or attributes that only real root may make were left out: {names}")


def unpack_layers(store: Store, content: ImageContent, directory: str, *, keep_owners: bool) -> list[bytes]:
    """Unpack all layers of *content* into the empty *directory*, lowest first; return what had to be left out.

    Files deleted by a layer are gone. Without *keep_owners* everything belongs to us. Raises ArchiveError, IntegrityError.
    """
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    skipped: list[bytes] = []
    try:
        for layer, diff_id in zip(content.layers, content.diff_ids, strict=True):
            skipped += _unpack_layer(store, layer, diff_id, root, keep_owners=keep_owners)
    finally:
        os.close(root)
    return skipped


def _unpack_layer(store: Store, layer: Descriptor, diff_id: DiffId, root: int, *, keep_owners: bool) -> list[bytes]:
    from img_core.kit import oci
    from img_core.kit.tar import OwnerPolicy, unpack_stream

    compression = oci.layer_compression(layer.media_type)
    if compression is None:
        raise ArchiveError(f"layer {layer.digest} has the unknown type `{show(layer.media_type)}`")
    policy = OwnerPolicy("set", None if keep_owners else (os.geteuid(), os.getegid()))
    _info, stats = unpack_stream(
        store.chunks(layer),
        root,
        "layer-apply",
        policy,
        compression=compression or None,
        expected_digest=layer.digest,
        expected_size=layer.size,
        expected_diff_id=diff_id,
    )
    return stats.skipped
