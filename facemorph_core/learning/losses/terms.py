r"""Loss terms, one number per image; the trainer takes the mean over images.

Convention:
    images are (B, 3, S, S) in [-1, 1]; ``l1`` and ``squared`` are means over an image's values,
    each pixel weighing as ``weights`` (B, 1, S, S) say, which are 1 on average;
    KL is in nats per image (the config weighs it per latent number, see `kl_per_number`),
    patch scores are (B, H, W) with 1 for real and 0 for made.

References:
    | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
    | Least Squares Generative Adversarial Networks (Mao et al., 2017), with a=0, b=c=1
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from facemorph_core.learning.models.base import Posterior


def l1(
    made: Float[Tensor, "b c h w"],
    real: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b 1 h w"] | float = 1.0,
) -> Float[Tensor, " b"]:
    """Mean absolute error of each image."""
    return (weights * l1_loss(made, real, reduction="none")).mean(dim=(1, 2, 3))


def squared(
    made: Float[Tensor, "b c h w"],
    real: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b 1 h w"] | float = 1.0,
) -> Float[Tensor, " b"]:
    """Mean squared error of each image."""
    return (weights * mse_loss(made, real, reduction="none")).mean(dim=(1, 2, 3))


def kl(posterior: Posterior) -> Float[Tensor, " b"]:
    """KL(q(z|x) || N(0, I)) of each image, nats."""
    return posterior.kl_to_standard_normal()


def kl_per_number(posterior: Posterior) -> Float[Tensor, " b"]:
    """`kl` over the length of the code, so that one weight suits codes of any length."""
    return kl(posterior) / posterior.mean.shape[1]


def latent_l2(code: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Mean square of the numbers of each code."""
    return code.square().mean(dim=1)


def adversarial(scores: Float[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """What the generator pays: half the squared distance of its scores from "real"."""
    return 0.5 * (scores - 1).square().mean(dim=(1, 2))


def discriminator(
    real: Float[Tensor, "b h w"], made: Float[Tensor, "b2 h w"]
) -> Float[Tensor, " b"]:
    """What the discriminator pays for each real image and the made images that go with it.

    ``made`` may hold several made images for each real one, in blocks of B; they share a half.
    """
    fooled = made.square().mean(dim=(1, 2)).reshape(-1, real.shape[0]).mean(dim=0)
    return 0.5 * ((real - 1).square().mean(dim=(1, 2)) + fooled)
