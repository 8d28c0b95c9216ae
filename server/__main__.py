"""The coordinator's command: ``python -m server``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facemorph_core.cli.main import run_app
from facemorph_core.errors import HubError
from facemorph_core.machine.printable import tell

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def without_a_command(context: typer.Context) -> None:
    """The coordinator's side: serve models to those who morph, and publish them."""
    if context.invoked_subcommand is None:
        tell(context.get_help())


@app.command()
def hub(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of bundles.")],
    address: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.")
    ] = "127.0.0.1:8765",
    cert: Annotated[Path | None, typer.Option(help="Certificate (with its chain), PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's private key, PEM.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that readers must show (mode 600).")
    ] = None,
    insecure_loopback: Annotated[
        bool,
        typer.Option(
            "--insecure-loopback", help="Plain text instead of TLS, to this machine only."
        ),
    ] = False,
) -> None:
    """Serve the bundles of a directory over gRPC until SIGTERM, SIGHUP or Ctrl-C.

    \b
    Examples:
      python -m server hub models/ --address 0.0.0.0:8765 --cert hub.pem --key hub.key \\
          --token-file reader.token
      python -m server hub models/ --insecure-loopback
    """  # noqa: D301 - \b is click's
    import logging

    from facemorph_core.hub.token import read_token_file
    from server.hub.catalogue import Catalogue
    from server.hub.serve import GRACE_SECONDS, start, stop_signals, tls

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    log = logging.getLogger(__name__)
    if insecure_loopback == bool(cert or key) or bool(cert) != bool(key):
        raise HubError(
            "the hub needs --cert and --key, or --insecure-loopback, and not both",
            hint="for a trial on this machine: --insecure-loopback",
        )
    credentials = tls(cert, key) if cert and key else None
    token = read_token_file(token_file) if token_file else None
    if token is None:
        log.info("no --token-file: whoever reaches the hub may read")
    asked = stop_signals()
    running = start(Catalogue(folder), address, credentials=credentials, token=token)
    tell(f"listening on {running.url}")
    asked.wait()
    log.info("stopping; downloads under way have %.0f s", GRACE_SECONDS)
    running.stop()


@app.command()
def publish(
    bundle: Annotated[str, typer.Argument(help="A .facemorph file, or a run that has one.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hub's directory.")],
    name: Annotated[str, typer.Option(help="What readers will call it.")],
) -> None:
    """Verify a bundle and add it to a hub's directory as the next version of NAME.

    Prints the path of the published file. The same bundle twice in a row stays one version. A hub
    that is running serves it at once.

    \b
    Examples:
      python -m server publish runs/celeba models/ --name faces
      python -m server publish faces.facemorph models/ --name faces
    """  # noqa: D301 - \b is click's
    from facemorph_core.bundle.find import find_model
    from server.hub.catalogue import publish as add

    entry = add(find_model(bundle), folder, name)
    tell(f"published {entry.name}@{entry.version}, sha256 {entry.sha256}", err=True)
    tell(str(entry.path))


@app.command()
def certificates(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go.")],
    host: Annotated[
        list[str],
        typer.Option(
            help="Name or address of the server; may be repeated. Those of the loopback are added."
        ),
    ],
    site: Annotated[
        list[str] | None, typer.Option(help="Make a key pair for this site; may be repeated.")
    ] = None,
    days: Annotated[
        int,
        typer.Option(
            min=1,
            max=36_500,
            help="Days that the server's certificate is valid; a new authority ten times as long.",
        ),
    ] = 365,
) -> None:
    """Make a certificate authority, the server's certificate and the sites' keys.

    Examples:
      python -m server certificates keys/ --host flower.example.org --site clinic-a --site clinic-b
    """
    from server.coordinator.certificates import create

    made = create(folder, hosts=host, sites=site or [], days=days)
    tell(f"{made.ca} goes to every site; {made.ca_key} and {made.server_key} to nobody")
    for name in site or []:
        key = made.site_key(name)
        tell(f"{key} goes to {name} alone; {key}.pub is to be registered")


@app.command()
def rollback(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")],
    to: Annotated[
        int | None, typer.Option(min=1, help="The round to go back to. [default: list them]")
    ] = None,
) -> None:
    """Let a run stand at an earlier round; without --to, list those that it can go back to.

    Nothing is deleted: what came later is moved aside in the run directory. The next start of the
    run goes on from that round. What sites spent of their privacy on later rounds stays spent.

    \b
    Examples:
      python -m server rollback runs/celeba
      python -m server rollback runs/celeba --to 12
    """  # noqa: D301 - \b is click's
    from server.coordinator.rollback import kept_rounds
    from server.coordinator.rollback import rollback as go_back

    if to is None:
        for kept in kept_rounds(run):
            tell(str(kept))
        return
    aside = go_back(run, to=to)
    told = f"what came later is in {aside}" if aside.exists() else "nothing came later"
    tell(f"{run} stands at round {to}; {told}", err=True)


if __name__ == "__main__":
    run_app(app, prog_name="python -m server")
