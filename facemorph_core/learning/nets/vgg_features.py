r"""What VGG16 sees in a picture: 512 numbers for the distance of two sets of pictures.

Convention:
    a picture is 512 numbers: the mean over all places of VGG16's last convolution after its ReLU
    (relu5_3; ImageNet weights of `facemorph_core.learning.weights`, "vgg16"), the picture at its
    own size. The distances on them (`facemorph_core.metrics.distribution`) are called FD-VGG16 and
    KD-VGG16: neither is FID or KID, whose network is InceptionV3.

References:
    | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan et al., 2014)
    | The Role of ImageNet Classes in Fréchet Inception Distance (Kynkäänniemi et al., 2023)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from facemorph_core.learning import weights
from facemorph_core.learning.nets.lpips import to_signed
from facemorph_core.learning.nets.vgg import STAGES, VGG16

__all__ = ["VGGFeatures", "fid_unavailable", "load_features", "vgg_features"]

BATCH = 16  # pictures at a time: bounds the memory


def fid_unavailable() -> str:
    """Why a table has FD-VGG16 where a reader may look for FID."""
    return (
        "FID is not measured: it is defined by one InceptionV3 network whose weights cannot be "
        "fetched and verified here. FD-VGG16 is the same formula on other features, on another "
        "scale: it compares the rows of this table with each other and with nothing else."
    )


class VGGFeatures(nn.Module):
    """VGG16 to relu5_3 and the mean over all places; all its numbers are fixed."""

    def __init__(self, features: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stages = VGG16(features)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Features of images in [-1, 1]."""
        return self.stages(images)[-1].float().mean(dim=(2, 3))


def load_features() -> VGGFeatures:
    """The network with its published weights.

    Raises:
        WeightsUnavailable: VGG16 is not in the cache.
    """
    network = VGGFeatures(load_file(weights.find("vgg16")))
    return network.to(memory_format=torch.channels_last)


@torch.no_grad()
def vgg_features(network: VGGFeatures, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 512) of pictures (n, h, w, 3)."""
    parts = [
        network(to_signed(images[start : start + BATCH], peak=255.0)).double().numpy()
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, STAGES[-1][-1]))
