"""Photos -> the faces between them: align, encode, take apart, put together.

Frames are (n, h, w, 3) uint8 RGB, or RGBA where a photo has transparency. A `Morpher` holds a model
and how frames are made; `morph` has what takes one line. Alpha runs from 0 (the first photo) to
1 (the second), to 2 (the third) and so on; in the modes full and landmark a frame at a whole number
is the photo itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facemorph_core.alignment.align import AlignedFace, FaceChoice, align_face, choose_face
from facemorph_core.alignment.beyond import lacking
from facemorph_core.alignment.detectors import name_of
from facemorph_core.alignment.frame import FRAME_SIZE, framing
from facemorph_core.alignment.geometry import rescaling
from facemorph_core.alignment.landmarks import DlibDetector, LandmarkDetector
from facemorph_core.alignment.photo import load_photo, on_white
from facemorph_core.alignment.resample import resample
from facemorph_core.bundle.find import find_model
from facemorph_core.bundle.manifest import Framing
from facemorph_core.bundle.read import Bundle, open_bundle
from facemorph_core.errors import ModelError
from facemorph_core.latent.interpolations import Interpolation
from facemorph_core.machine.progress import Progress
from facemorph_core.machine.threads import side_by_side
from facemorph_core.morphing.blend import MorphBlend
from facemorph_core.morphing.canvas import Canvas, canvas_size
from facemorph_core.morphing.choices import LONGEST_SIDE, Compose, Curve, Ease, Mode
from facemorph_core.morphing.film import MorphFilm, Place
from facemorph_core.morphing.layers import Face, Layers
from facemorph_core.morphing.provenance import MorphProvenance
from facemorph_core.morphing.sequence import MorphSequence
from facemorph_core.morphing.transition import DEFAULT_STEPS, Look, Transition, spaced
from facemorph_core.morphing.view import View
from facemorph_core.pictures.formats import PLAYED_SIZE

PhotoLike = Path | str | Image.Image | NDArray[np.uint8]

FRAMES_VERSION = 5
"""Raised whenever the same settings give other frames: work that was begun before is not mixed."""


@dataclass(frozen=True, slots=True, eq=False)
class MorphFace:
    """A face of a photo, ready to be morphed."""

    aligned: AlignedFace
    """At the side that frames are made at."""
    layer: Face
    photo: Path | None = None
    """The file that it is from, if it is from one."""
    doubts: tuple[str, ...] = ()
    """What is doubtful about it, see `alignment.doubts`."""


@dataclass
class Morpher:
    """A model, and how frames are made with it. It may be kept and used for many photos.

    Raises:
        ModelError: there is no such model, it is damaged, or it expects another framing.

    Examples:
        >>> morpher = Morpher(mode="latent", size=64)
        >>> drawn = morpher.bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))
        >>> faces = morpher.faces(list(drawn))
        >>> sequence = morpher.sequence([*faces, faces[0]], steps=3)
        >>> sequence.frames.shape, sequence.alphas.tolist()
        ((5, 64, 64, 3), [0.0, 0.5, 1.0, 1.5, 2.0])
    """

    model: Bundle | Path | str | None = None
    """A bundle or what `find_model` understands, None the starter."""
    mode: Mode = "full"
    """Which layers make a frame, see `morphing.layers`."""
    compose: Compose = "frame"
    """What is shown, see `morphing.view`."""
    size: int | None = None
    """Side of the frames, pixels; of whole photos the longer side. By default PLAYED_SIZE, and the
    first photo's own up to LONGEST_SIDE."""
    path: Interpolation = "lerp"
    """How codes are interpolated."""
    shape_curve: Curve = "linear"
    """When features move, see `morphing.curves`."""
    texture_curve: Curve = "linear"
    """When skin, hair and background change."""
    ease: Ease = "linear"
    """How alphas are spaced."""
    fit: int = 0
    """Steps that bring codes nearer to their faces, see `latent.fitting`."""
    detector: LandmarkDetector = field(default_factory=DlibDetector)
    bundle: Bundle = field(init=False)

    def __post_init__(self) -> None:
        given = self.model
        self.bundle = given if isinstance(given, Bundle) else open_bundle(find_model(given))
        _check_framing(self.bundle)

    def but(self, **changes: Any) -> Morpher:
        """The same with these settings instead; the model is not read again."""
        return replace(self, model=self.bundle, **changes)

    @property
    def settings(self) -> dict[str, str | int | None]:
        """Everything that decides how frames look, and the model's hash; a detector by its name."""
        names = ("mode", "compose", "size", "path", "shape_curve", "texture_curve", "ease", "fit")
        own = {name: getattr(self, name) for name in names}
        found_by = name_of(self.detector)
        if found_by not in (None, "dlib"):  # what was begun when there was dlib's alone goes on
            own["detector"] = found_by
        return {"frames_version": FRAMES_VERSION, "model_sha256": self.bundle.digest, **own}

    def face(self, photo: PhotoLike, choice: FaceChoice = "largest") -> MorphFace:
        """Find, align and encode a face.

        Raises:
            PhotoError: the photo cannot be read or holds no such face.
            ValueError: an array that is not (H, W, 3) RGB or (H, W, 4) RGBA.
        """
        image = photo if isinstance(photo, np.ndarray) else load_photo(photo, opacity=True)
        if image.ndim != 3 or image.shape[2] not in (3, 4):
            raise ValueError(f"an (H, W, 3) RGB or RGBA image is needed, got {image.shape}")
        file = Path(photo) if isinstance(photo, (str, Path)) else None
        seen = np.ascontiguousarray(on_white(image))
        found = choose_face(seen, self.detector, choice, name=file or "the image")
        small, given = (
            align_face(seen, found.landmarks, size=side, beyond="blurred")
            for side in (FRAME_SIZE, self.bundle.manifest.image_size)
        )
        code = self.bundle.encode(given.pixels[None], given.landmarks[None], fit=self.fit)[0]
        if self.compose == "photo":
            layer = Face(small.pixels, small.landmarks, code, image, small.to_frame)
            return MorphFace(small, layer, file, found.doubts)
        shown = align_face(seen, found.landmarks, size=self._side, beyond="blurred")
        frame = shown.pixels
        if image.shape[2] == 4:
            opacity = resample(
                np.repeat(image[..., 3:], 3, axis=2),
                shown.to_frame,
                size=2 * (self._side,),
                beyond="blurred",
            )
            frame = np.dstack([frame, opacity[..., :1]])
        made_up = lacking(shown.to_frame, shown.photo_size, self._side)
        layer = Face(
            small.pixels,
            small.landmarks,
            code,
            frame,
            rescaling(FRAME_SIZE / self._side),
            made_up if made_up.any() else None,
        )
        return MorphFace(shown, layer, file, found.doubts)

    def faces(
        self,
        photos: Sequence[PhotoLike],
        choices: Sequence[FaceChoice] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[MorphFace]:
        """Each as `face`, side by side; the error is that of the first that has one.

        Here and below, ``progress`` is told how many are done, and of how many.
        """
        chosen = choices or ["largest"] * len(photos)
        if len(chosen) != len(photos):
            raise ValueError(f"{len(photos)} photos and {len(chosen)} choices of a face")
        return side_by_side(
            [partial(self.face, *each) for each in zip(photos, chosen, strict=True)], progress
        )

    def sequence(
        self,
        faces: Sequence[MorphFace],
        *,
        steps: int = DEFAULT_STEPS,
        loop: bool = False,
        progress: Progress | None = None,
    ) -> MorphSequence:
        """From each face to the next in ``steps`` frames; with ``loop`` back to the first.

        Between several faces, each is one frame, and ``steps`` counts both faces of a transition.
        All frames are held at once; `film` makes them one at a time.

        Raises:
            ValueError: fewer than two faces, or fewer than two steps.
        """
        return self.film(faces, steps=steps, loop=loop).sequence(progress)

    def film(
        self,
        faces: Sequence[MorphFace],
        *,
        steps: int = DEFAULT_STEPS,
        loop: bool = False,
        boomerang: bool = False,
    ) -> MorphFilm:
        """As `sequence`, of frames that are made when they are asked for.

        With ``boomerang`` there and back, the ends once.
        """
        legs = _legs(faces, loop)
        places: list[Place] = []
        for leg in range(legs):
            positions = self._positions(faces, leg, steps).tolist()
            shown = positions if leg == legs - 1 and not loop else positions[:-1]
            places += [(leg, alpha) for alpha in shown]
        film = self._film(faces, places)
        return film.boomerang() if boomerang else film

    def film_at(
        self, faces: Sequence[MorphFace], alphas: Sequence[float], *, loop: bool = False
    ) -> MorphFilm:
        """The frames at these ``alphas`` alone: 0 is the first face, 1 the second, and so on.

        Raises:
            ValueError: fewer than two faces, or an alpha that lies beyond them.
        """
        legs = _legs(faces, loop)
        wrong = [alpha for alpha in alphas if not 0 <= alpha <= legs]
        if wrong or not alphas:
            raise ValueError(f"alphas are from 0 to {legs} here (got {wrong or 'none'})")
        starts = [min(int(alpha), legs - 1) for alpha in alphas]
        pairs = zip(starts, alphas, strict=True)
        return self._film(faces, [(leg, alpha - leg) for leg, alpha in pairs])

    def _positions(self, faces: Sequence[MorphFace], leg: int, steps: int) -> NDArray[np.float64]:
        """The alphas of a leg; only steps that look equal need its frames to be known."""
        if self.ease == "perceptual":
            return self._way(faces, leg).positions(steps)
        return spaced(steps, self.ease)

    def _way(self, faces: Sequence[MorphFace], leg: int) -> Transition:
        pair = faces[leg].layer, faces[(leg + 1) % len(faces)].layer
        return self.between(pair, first=faces[0].layer)

    def _film(self, faces: Sequence[MorphFace], places: Sequence[Place]) -> MorphFilm:
        route = tuple(faces)
        clear = any(face.layer.photo.shape[2] == 4 for face in route)
        first = route[0].layer.photo
        height, width = (
            2 * (self._side,)
            if self.compose == "frame"
            else canvas_size(first, self.size or LONGEST_SIDE)
        )
        return MorphFilm(
            tuple(places),
            partial(self._way, route),
            (height, width, 4 if clear else 3),
            faces=tuple(face.aligned for face in route),
            provenance=self.provenance,
            photos=_files(route),
        )

    def between(self, pair: Sequence[Face], *, first: Face | None = None) -> Transition:
        """The way from one face to another; pictures have the shape of ``first``, else its own."""
        return Transition(
            Layers(self.bundle, pair, self.mode),
            self._look(pair, first or pair[0]),
            path=self.path,
            shape_curve=self.shape_curve,
            texture_curve=self.texture_curve,
            ease=self.ease,
        )

    def blend(
        self,
        faces: Sequence[MorphFace],
        weights: NDArray[np.float64],
        *,
        progress: Progress | None = None,
    ) -> MorphBlend:
        """One picture for each row of ``weights`` (n, P), which are brought to a sum of 1.

        Raises:
            ValueError: a weight below 0 or not finite, or a row of zeros.
        """
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=1).all()):
            raise ValueError("weights are at least 0, and not all of them 0")
        shares = weights / weights.max(axis=1, keepdims=True)  # first, so that no sum is infinite
        shares /= shares.sum(axis=1, keepdims=True)
        layers = Layers(self.bundle, [face.layer for face in faces], self.mode)
        codes = (shares @ np.stack([face.layer.code for face in faces])).astype(np.float32)
        look = self._look(layers.faces, faces[0].layer)
        jobs = [
            partial(layers.frame, code, own, own, look(own))
            for code, own in zip(codes, shares, strict=True)
        ]
        return MorphBlend(
            frames=np.stack(side_by_side(jobs, progress)),
            weights=shares,
            faces=tuple(face.aligned for face in faces),
            provenance=self.provenance,
            photos=_files(faces),
        )

    @property
    def provenance(self) -> MorphProvenance:
        """What its frames say of themselves."""
        return MorphProvenance(self.mode, self.bundle.manifest.name, self.bundle.digest)

    @property
    def _side(self) -> int:
        return self.size or PLAYED_SIZE

    def _look(self, faces: Sequence[Face], first: Face) -> Look:
        """What is seen with some weights of ``faces``, in a picture in the shape of ``first``."""
        if self.compose == "frame":
            view = View.of_frame(self._side)
            return lambda weights: view
        return Canvas.of(faces, canvas_size(first.photo, self.size or LONGEST_SIDE)).view


def _legs(faces: Sequence[MorphFace], loop: bool) -> int:
    """How many ways there are from a face to the next."""
    if len(faces) < 2:
        raise ValueError(f"a morph is between two faces or more (got {len(faces)})")
    return len(faces) if loop else len(faces) - 1


def _files(faces: Sequence[MorphFace]) -> tuple[Path, ...]:
    return tuple(face.photo for face in faces if face.photo is not None)


def _check_framing(bundle: Bundle) -> None:
    stated, ours = bundle.manifest.framing, Framing.model_validate(framing())
    if stated != ours:
        raise ModelError(
            f"the model '{bundle.manifest.name}' expects faces framed as {stated}, "
            f"but this version aligns them as {ours}",
            hint="use the facemorph-core that the model was made with: "
            f"{bundle.manifest.core_version}",
        )
