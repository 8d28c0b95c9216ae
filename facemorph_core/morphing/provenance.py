"""What a morph says of itself: by which model and how far between the photos.

It names no photo and no person, and holds no time: the same morph is the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facemorph_core.morphing.choices import Mode
from facemorph_core.pictures.provenance import Maker, Note, note_of

__all__ = ["MorphProvenance"]

MORPH = Maker(
    prefix="morph",
    namespace="urn:facemorph:morph:1",
    sentence="Synthetic image: a face morph made with facemorph-core.",
)


@dataclass(frozen=True, slots=True)
class MorphProvenance:
    """Where frames come from."""

    mode: Mode
    model: str
    model_sha256: str

    def note(
        self,
        places: Sequence[float] = (),
        *,
        weights: Sequence[Sequence[float]] = (),
        modes: Sequence[Mode] = (),
    ) -> Note:
        """Of a file with frames at these alphas, or of the photos' ``weights``.

        ``modes`` are those of a picture that shows several beside each other.
        """
        shown = modes or (self.mode,)
        properties = {
            "Mode": " ".join(shown),
            "Model": self.model,
            "ModelSHA256": self.model_sha256,
        }
        if places:
            properties["Alpha"] = _numbers(places)
        if weights:
            properties["Weights"] = ", ".join(map(_numbers, weights))
        drawn = any(mode != "landmark" for mode in shown)
        return note_of(MORPH, properties, drawn=drawn)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
