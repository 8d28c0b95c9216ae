"""One stage of LPIPS 0.1, and its linear heads: what each channel of a network's stages counts.

The heads come from the installed package `lpips`, which is not imported, and are pinned by hash.

References:
    | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
    | https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from jaxtyping import Float
from torch import Tensor

from facemorph_core.errors import MissingExtra, WeightsUnavailable

__all__ = ["HEADS_SHA256", "Network", "heads_file", "load_heads", "stage_distance"]

Network = Literal["alex", "vgg"]

HEADS_SHA256: dict[Network, str] = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
STAGES = 5


def stage_distance(
    a: Float[Tensor, "b c h w"],
    b: Float[Tensor, "b c h w"],
    head: Float[Tensor, "1 c 1 1"],
    *,
    shortest: float,
) -> Float[Tensor, " b"]:
    """What one stage adds to the distance of two images (Zhang et al., equation 1).

    Feature vectors are compared at length 1; those below ``shortest`` are not brought there.
    """
    first, second = (F.normalize(x.float(), dim=1, eps=shortest) for x in (a, b))
    return ((first - second).square() * head).sum(dim=1).mean(dim=(1, 2))


def load_heads(network: Network) -> list[Tensor]:
    """One (1, C, 1, 1) for each of the five stages, none negative.

    Raises:
        WeightsUnavailable: the file has another hash.
        MissingExtra: the package `lpips` is not installed.
    """
    file = heads_file(network)
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != HEADS_SHA256[network]:
        raise WeightsUnavailable(
            f"{file} is not the file of LPIPS 0.1", hint="pip install lpips==0.1.4"
        )
    heads = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return [heads[f"lin{stage}.model.1.weight"] for stage in range(STAGES)]


def heads_file(network: Network) -> Path:
    """The file in the installed package."""
    spec = find_spec("lpips")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "weights" / "v0.1" / f"{network}.pth"
        if path.is_file():
            return path
    raise MissingExtra("train", needed_for="LPIPS")
