r"""The linear start: principal components through the same weights that travel anyway.

Before the first gradient step some passes fit the model's linear path alone, by subspace
iteration. With :math:`Q` an orthonormal basis of the decoder's columns and :math:`C` the
covariance of the (small) images, a pass computes :math:`D' = C Q`. It is a mean over images, so
sites can each compute theirs and the server averages them: the mean is that of all images
together. `settled` then turns a merged :math:`D'` into a decoder and encoder of whitened
principal components, and a model that starts with everything that a linear code can do.

Whoever computes :math:`Q` from the same decoder gets the same one: the symmetric square root
leaves no sign or order open, as a QR or a singular value decomposition would.

References:
    | Finding Structure with Randomness (Halko, Martinsson & Tropp, 2011), algorithm 4.3
    | On Symmetric and Canonical Orthonormalization (Lowdin, 1950)
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from facemorph_core.config.schema import RunConfig
from facemorph_core.latent.geometry import geometry_of
from facemorph_core.models import Autoencoder
from facemorph_core.models.blocks import LINEAR_GAIN, shrunk
from facemorph_core.training.batches import Batch, Faces, mirrored, to_images, train_rows
from facemorph_core.training.compute import choose_compute, cpu_threads
from facemorph_core.training.local import TrainedRound, at_rest
from facemorph_core.training.streams import stream

__all__ = ["fit_linear", "is_linear_round", "linear_pass", "settled"]

DECODER, ENCODER = "decoder.linear", "encoder.linear"
BATCH = 256


def is_linear_round(config: RunConfig, number: int) -> bool:
    """Whether round ``number`` (from 1) fits the linear path."""
    return number <= config.training.linear_start


def fit_linear(model: Autoencoder, shard: Faces, config: RunConfig) -> None:
    """All passes of the linear start, in place, for training in one place."""
    for number in range(config.training.linear_start):
        linear_pass(model, shard, config, seed=config.seed, number=number)
        model.load_state_dict(settled(model.state_dict()))


@torch.no_grad()
def linear_pass(
    model: Autoencoder, shard: Faces, config: RunConfig, *, seed: int, number: int
) -> TrainedRound:
    """One pass over the "train" split.

    Leaves C Q in the decoder's linear weight, the images' mean in its bias, and everything else
    as it was. Only means of these may be merged, and `settled` must follow.

    Raises:
        ShardError, ModelError: as `train_epochs`.
    """
    rows = train_rows(shard, model.image_size)
    device = choose_compute(config.training).device
    geometry = geometry_of(config.model.geometry, model.image_size)
    started = time.perf_counter()
    weight, bias = model.decoder.linear.weight, model.decoder.linear.bias
    basis = orthonormal(weight.detach()).float().to(device)
    centre = bias.detach().clone().to(device)
    product, total, error = torch.zeros_like(basis), torch.zeros_like(centre), 0.0
    with cpu_threads(config.training.threads):
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            seen = geometry.see(shard.images(part), shard.landmarks(part))
            batch = Batch(to_images(seen.pixels, device), 1.0)
            if config.training.mirror:
                batch = mirrored(batch, stream(seed, "linear", number, start))
            away = shrunk(batch.images, 2).flatten(1) - centre
            codes = away @ basis
            product += away.T @ codes
            total += away.sum(dim=0)
            error += float((away - codes @ basis.T).square().mean(dim=1).sum())
    weight.copy_(product.cpu() / len(rows))
    bias.copy_((centre + total / len(rows)).cpu())
    at_rest(model)
    seconds = time.perf_counter() - started
    metrics = {"squared": error / len(rows), "images": float(len(rows)), "seconds": seconds}
    return TrainedRound(len(rows), metrics)


@torch.no_grad()
def settled(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's weights with its linear path made whole after a merged `linear_pass`.

    Codes of the training images have unit variance along their principal components.
    """
    product, mean = weights[f"{DECODER}.weight"].double(), weights[f"{DECODER}.bias"].double()
    values, turn = torch.linalg.eigh(product.T @ product)  # squares of the variances
    values, turn = values.flip(0).clamp_min(1e-12), turn.flip(1)
    axes = product @ turn / values.sqrt()
    axes *= torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))
    scales = values.sqrt().sqrt()
    encoder = _quartered(axes / scales)
    centre = shrunk(_as_image(mean), 2).flatten()
    changed = {
        f"{DECODER}.weight": axes * scales / LINEAR_GAIN,
        f"{ENCODER}.weight": encoder / LINEAR_GAIN,
        f"{ENCODER}.bias": -(encoder @ centre),
    }
    whole = dict(weights)
    for name, value in changed.items():
        whole[name] = value.float().reshape(weights[name].shape).contiguous()
    return whole


def orthonormal(columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """The orthonormal basis nearest to ``columns``, D (D^T D)^(-1/2), float64."""
    exact = columns.double()
    exact = exact / exact.norm(dim=0).clamp_min(1e-30)
    values, turn = torch.linalg.eigh(exact.T @ exact)
    return exact @ (turn / values.clamp_min(1e-12).sqrt()) @ turn.T


def _quartered(axes: Float[Tensor, "p k"]) -> Float[Tensor, "k q"]:
    """What reads the code from an image of half the side: each of its pixels stands for four."""
    return 4 * shrunk(_as_image(axes.T), 2).flatten(1)


def _as_image(flat: Tensor) -> Tensor:
    side = round((flat.shape[-1] / 3) ** 0.5)
    return flat.reshape(-1, 3, side, side)
