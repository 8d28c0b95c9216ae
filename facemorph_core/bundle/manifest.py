"""What a bundle says about itself: `manifest.json`, checked when written and when read."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from facemorph_core.latent.geometry import GeometryKind, network_numbers

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ENCODER, DECODER, CARD, TEST_VECTOR = "encoder.onnx", "decoder.onnx", "card.md", "testvector.npz"
MEMBERS = (ENCODER, DECODER, CARD, TEST_VECTOR)
"""Every member beside the manifest, in the order of the file."""

NOT_PRIVATE = (
    "trained without differential privacy: the released weights carry no guarantee about how "
    "much they reveal of a single training photo"
)


def _finite(value: JsonValue) -> JsonValue:
    """JSON has neither infinity nor NaN, but its parsers make them of 1e999 and the like."""
    match value:
        case dict():
            for inner in value.values():
                _finite(inner)
        case list():
            for inner in value:
                _finite(inner)
        case float() if not math.isfinite(value):
            raise ValueError("a number is too large, or none")
    return value


Facts = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Framing(_Part):
    """The canonical frame, in its own pixels; the model sees it scaled to ``image_size``."""

    size: Annotated[int, Field(ge=1)] = 128
    """Side of the frame, pixels."""
    eye_distance: Annotated[float, Field(gt=0)] = 36.0
    """Distance of the eye centres of the mean shape, pixels."""
    eye_centre: tuple[float, float] = (63.5, 59.5)
    """Point (x, y) halfway between the eyes, pixels, origin at the centre of the first pixel."""
    landmarks: str = "dlib68"
    """The points that the fit goes through."""


class Member(_Part):
    """Size and digest of one member."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class Manifest(_Part):
    """Everything a reader needs before touching a weight; unknown or missing fields are refused.

    Examples:
        >>> from facemorph_core import open_bundle
        >>> from facemorph_core.bundle.find import find_model
        >>> manifest = open_bundle(find_model("starter")).manifest
        >>> manifest.image_size, manifest.latent_dim, manifest.network_numbers
        (128, 128, 104)
    """

    format_version: Literal[1] = 1
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    """Kind of autoencoder, as in the config. Nothing that reads a bundle depends on it."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    latent_dim: Annotated[int, Field(ge=1, le=65536)]
    """Numbers in the code of a face."""
    image_size: Annotated[int, Field(ge=8, le=4096)]
    """Side of the images that go in and come out, pixels."""
    geometry: GeometryKind = "plain"
    """plain: the code describes the frame as it is; mean_shape: its first numbers are the face's
    shape, and the networks see the face in the mean shape."""
    framing: Framing = Framing()
    precision: Literal["float16", "float32"]
    """How the weights are stored; they are computed with as float32."""
    training: Facts
    """Rounds, sites, examples and what else the trainer had to say."""
    metrics: Facts
    """Figures of this very model, by name."""
    privacy: Facts | str
    """What was released and under which guarantee; a sentence where there is none."""
    created: datetime
    """UTC."""
    core_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,64}$")]
    config: Facts
    """The resolved config of the run."""
    members: dict[str, Member] = {}
    """Every other member of the file."""

    @property
    def networks(self) -> str:
        """SHA-256 over both networks: the same for bundles that differ in what they say only."""
        both = "".join(self.members[name].sha256 for name in (ENCODER, DECODER))
        return hashlib.sha256(both.encode()).hexdigest()

    @property
    def network_numbers(self) -> int:
        """The numbers of a code that the networks make: all, or all but the shape's."""
        return network_numbers(self.latent_dim, self.geometry)

    @model_validator(mode="after")
    def _leaves_room_for_texture(self) -> Manifest:
        network_numbers(self.latent_dim, self.geometry)
        return self
