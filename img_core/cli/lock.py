"""``img lock``: which exact images, files and repositories a build definition means, written to a file for ``img build --locked``."""

from __future__ import annotations

import click

from img_core.cli._base import Command, refuse_more, settings_of
from img_core.cli._exit import signals_to
from img_core.cli._output import echo, say
from img_core.spec.errors import UsageError

__all__ = ["command"]


@click.command("lock", cls=Command)
@click.option("--build-arg", "build_args", multiple=True, help="set a build argument, as for `img build`")
@click.option("--build-context", "contexts", multiple=True, help="another build context, as for `img build`")
@click.option("-f", "--file", "file", help="name of the Dockerfile (default PATH/Dockerfile)")
@click.option("--insecure-registry", is_flag=True, help="allow plain HTTP and unverified TLS for registries")
@click.option("-o", "--output", "output", help="write to this file, or - (default: that of the Dockerfile with .lock)")
@click.option("--platform", "platforms", multiple=True, help="platforms to build for, e.g. linux/arm64")
@click.option("--pull", is_flag=True, help="ask the registries, also for images that are kept here")
@click.option(
    "--secret", "secrets", multiple=True, help="secret that logs in to a web or git server, as for `img build`"
)
@click.option("--target", default="", help="lock only what this stage needs")
@click.argument("paths", nargs=-1, metavar="PATH")
@click.pass_context
def command(
    context: click.Context,
    build_args: tuple[str, ...],
    contexts: tuple[str, ...],
    file: str | None,
    insecure_registry: bool,
    output: str | None,
    platforms: tuple[str, ...],
    pull: bool,
    secrets: tuple[str, ...],
    target: str,
    paths: tuple[str, ...],
) -> None:
    """Write the digests of all that a Dockerfile takes from outside to a lock file."""
    from img_core.api import BuildRequest, CancelHandle
    from img_core.cli.build._secrets import parse_contexts, parse_secrets
    from img_core.cli.build._values import parse_build_args, split_list
    from img_core.files.output import is_stdout, open_output

    if not paths:
        raise UsageError("must pass a path to lock")
    refuse_more(context, paths, 1, "one PATH")
    request = BuildRequest(
        context=paths[0],
        dockerfile=file or None,
        build_args=parse_build_args(build_args),
        contexts=parse_contexts(contexts),
        platforms=split_list(platforms),
        pull=pull,
        secrets=parse_secrets(secrets),
        target=target,
        insecure_registries=("*",) if insecure_registry else (),
    )
    with settings_of(context).client() as client:
        request = client.located(request)
        client.enter()
        handle = CancelHandle()
        with signals_to(handle.cancel):
            lock = client.lock(request, cancel=handle)
    path = output or lock.path
    if not path:
        raise UsageError("the lock file needs a name: the build definition is in no file here", hint="use `-o FILE`")
    if is_stdout(path):
        echo(lock.text, end="")
        return
    with open_output(path) as opened:
        opened.write(lock.text.encode())
    say(f"Locked {len(lock.sources)} source{'s' * (len(lock.sources) != 1)} in {path}")
