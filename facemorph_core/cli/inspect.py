"""`facemorph-core inspect BUNDLE`: what a bundle says about itself, after verifying it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from facemorph_core.bundle import Bundle, open_bundle
from facemorph_core.bundle.card import flat
from facemorph_core.bundle.find import HUBS, find_model
from facemorph_core.machine.printable import printable, tell


def command(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="Bundle, run directory, hub://HOST:PORT/NAME@VERSION, or starter.",
        ),
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Also run the networks on the bundle's test vector."),
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Verify a bundle and show its manifest.

    Examples:
      facemorph-core inspect model.facemorph --check
          every byte verified, the networks reproduce their test vector
      facemorph-core inspect model.facemorph --json | jq .metrics
    """
    opened = open_bundle(find_model(bundle))
    origin = _origin(bundle, opened)
    if check:
        opened.check_reference()
    if as_json:
        facts = {"sha256": opened.digest, "size": _size(opened), "checked": check} | origin
        tell(json.dumps(opened.manifest.model_dump(mode="json") | facts, indent=1))
    elif card:
        tell(printable(opened.card, lines=True), nl=False)
    else:
        _show(opened, origin, checked=check)


def _origin(ref: str, bundle: Bundle) -> dict[str, str]:
    """The pinned reference of a bundle that came from a hub."""
    if not ref.startswith(HUBS):
        return {}
    from facemorph_core import hub

    return {"reference": hub.pinned(ref, bundle.path)}


def _show(bundle: Bundle, origin: dict[str, str], *, checked: bool) -> None:
    manifest = bundle.manifest.model_dump(mode="json", exclude={"config", "members"})
    rows = {printable(key): _text(value) for key, value in flat(manifest)}
    rows |= {f"members.{name}": _bytes(it.size) for name, it in bundle.manifest.members.items()}
    rows |= {"size": _bytes(_size(bundle)), "sha256": bundle.digest} | origin
    verified = "every byte verified"
    rows["state"] = f"{verified}; reproduces its test vector" if checked else verified
    width = max(len(key) for key in rows)
    for key, value in rows.items():
        tell(printable(f"{key:<{width}}  {value}"))


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _size(bundle: Bundle) -> int:
    return bundle.path.stat().st_size


def _bytes(size: int) -> str:
    return f"{size:,} bytes"
