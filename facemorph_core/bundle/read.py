"""Opening a bundle: everything is verified before a weight is used, and nothing is unpickled.

Pixels are (n, S, S, 3) uint8 RGB, codes are (n, D) float32; the model's own units, (n, 3, S, S)
floats in [-1, 1], do not leave this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from facemorph_core.alignment.frame import NUM_LANDMARKS
from facemorph_core.bundle.archive import MAX_BYTES, NotCanonical, unpack
from facemorph_core.bundle.manifest import (
    CARD,
    DECODER,
    ENCODER,
    FORMAT_VERSION,
    MANIFEST,
    MEMBERS,
    TEST_VECTOR,
    Manifest,
)
from facemorph_core.bundle.reference import (
    CODE_TOLERANCE,
    PIXEL_TOLERANCE,
    Reference,
    unpack_reference,
)
from facemorph_core.errors import BundleError
from facemorph_core.latent.fitting import fitted
from facemorph_core.latent.geometry import Geometry, geometry_of
from facemorph_core.machine.cores import available_cores
from facemorph_core.machine.inference import cpu_session

if TYPE_CHECKING:
    from facemorph_core.bundle.graph import Graph

CHUNK = 16  # images a pass: bounds the memory of a long morph
PASS_BYTES = 2**30  # of all that a network computes in a pass: fewer images where each takes more
MAX_THREADS = 4  # more hardly helps a net of this size
MAX_MANIFEST = MAX_CARD = 2**20
LARGEST = {ENCODER: 1e12, DECODER: 1.0}
"""What a network may give: codes whose squares are still numbers, pictures in [-1, 1]."""


@dataclass(frozen=True)
class _Network:
    """A loaded network and how many faces it takes in a pass."""

    session: Any
    faces: int


@dataclass(frozen=True)
class Bundle:
    """A verified model. The networks are loaded when they are first needed.

    Examples:
        >>> from facemorph_core.bundle.find import find_model
        >>> bundle = open_bundle(find_model("starter"))
        >>> faces = bundle.decode(np.zeros((2, bundle.manifest.latent_dim)))
        >>> faces.shape, faces.dtype
        ((2, 128, 128, 3), dtype('uint8'))
    """

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of the file."""
    members: Mapping[str, memoryview] = field(repr=False)

    @property
    def geometry(self) -> Geometry:
        """What of a code is shape, and what the networks see."""
        return geometry_of(self.manifest.geometry, self.manifest.image_size)

    def encode(
        self, pixels: NDArray[np.uint8], landmarks: NDArray[Any] | None = None, *, fit: int = 0
    ) -> NDArray[np.float32]:
        """Faces in the frame (n, S, S, 3) uint8 -> codes (n, D), for S the bundle's image size.

        ``landmarks`` (n, 68, 2) in the frame may be left out where no number of a code is shape.
        ``fit`` steps then bring each code nearer to its face, see `latent.fitting`: the time of
        more than a hundred pictures each.

        Raises:
            ValueError: other shapes, or a geometry that needs landmarks has none.
            BundleError: a network cannot be run, or gives what is no code.
        """
        size = self.manifest.image_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"pixels must be uint8 (n, {size}, {size}, 3), got {pixels.shape}")
        if landmarks is None:
            if self.geometry.numbers:
                kind = self.manifest.geometry
                raise ValueError(f"a model of geometry {kind} needs the landmarks of each face")
            landmarks = np.zeros((len(pixels), NUM_LANDMARKS, 2), np.float32)
        if landmarks.shape != (len(pixels), NUM_LANDMARKS, 2):
            raise ValueError(f"landmarks must be (n, {NUM_LANDMARKS}, 2), got {landmarks.shape}")
        seen = self.geometry.see(pixels, landmarks)
        codes = self._texture_codes(seen.pixels)
        if fit:
            codes = fitted(codes, to_model(seen.pixels), seen.areas, self._drawn, steps=fit)
        return self.geometry.join(seen.shape, codes)

    def decode(self, z: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Codes (n, D) -> faces in the frame (n, S, S, 3) uint8.

        Raises:
            ValueError: codes of another length.
            BundleError: the network cannot be run, or draws what is no picture.
        """
        if z.ndim != 2 or z.shape[1] != self.manifest.latent_dim:
            raise ValueError(f"codes must be (n, {self.manifest.latent_dim}), got {z.shape}")
        shape, texture = self.geometry.split(z)
        return self.geometry.show(self._textures(texture), shape)

    def textures(self, z: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What the decoder draws of codes (n, D): (n, S, S, 3) in levels of 0..255, not rounded.

        With their landmarks at `Geometry.texture_landmarks`.
        """
        values = np.ascontiguousarray(self.geometry.split(z)[1], np.float32)
        levels = (self._drawn(values) + 1) * np.float32(127.5)
        return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))

    def _texture_codes(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the encoder makes of the pictures that it sees."""
        return self._chunked(ENCODER, lambda part: self._run(ENCODER, to_model(part)), pixels)

    def _textures(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """What the decoder draws, as pixels."""
        values = np.ascontiguousarray(codes, np.float32)
        return self._chunked(DECODER, lambda part: from_model(self._run(DECODER, part)), values)

    def _drawn(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the decoder draws, in the model's own units."""
        return self._chunked(DECODER, lambda part: self._run(DECODER, part), codes)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights under their state-dict names, for training to start from."""
        from facemorph_core.bundle.graph import read_weights

        graphs = (self._graph(member).model for member in (ENCODER, DECODER))
        return {name: value for graph in graphs for name, value in read_weights(graph).items()}

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return bytes(self.members[CARD]).decode()

    @cached_property
    def reference(self) -> Reference:
        """The test vector: pictures as the networks see them, and the networks' own numbers."""
        sizes = {
            "image_size": self.manifest.image_size,
            "latent_dim": self.manifest.network_numbers,
        }
        try:
            return unpack_reference(bytes(self.members[TEST_VECTOR]), **sizes)
        except NotCanonical as error:
            raise _damaged(self.path, str(error)) from None

    def check_reference(self) -> None:
        """Run the test vector through the networks; BundleError if other numbers come out."""
        reference = self.reference
        codes, images = self._texture_codes(reference.pixels), self._textures(reference.codes)
        stated = reference.codes.astype(float)
        lengths = np.linalg.norm(stated, axis=1) + 1e-6
        code_error = (np.linalg.norm(codes - stated, axis=1) / lengths).max()
        pixel_error = np.abs(images.astype(int) - reference.images.astype(int)).max()
        # "not <=": a NaN is an error too
        if not (code_error <= CODE_TOLERANCE and pixel_error <= PIXEL_TOLERANCE):
            raise BundleError(
                f"{self.path} does not reproduce its test vector here: the codes differ by "
                f"{code_error:.2g} of their length and the images by {pixel_error} of 255",
                hint="the file is whole, so try another version of onnxruntime",
            )

    def run_network(
        self, half: Literal["encoder", "decoder"], values: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """One network alone, in its own units: pictures (n, 3, S, S) in [-1, 1], numbers (n, N)."""
        return self._run(ENCODER if half == "encoder" else DECODER, values)

    def checked_graph(self, member: str) -> Any:
        """The ONNX graph of a network, parsed; BundleError if it is not one a bundle may hold."""
        return self._graph(member).model

    def _run(self, member: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        session = self._network(member).session
        size, numbers = self.manifest.image_size, self.manifest.network_numbers
        shape = (numbers,) if member == ENCODER else (3, size, size)
        try:
            found = session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise _damaged(self.path, f"{member} cannot be run: {_reason(error)}") from error
        if found.shape != (len(values), *shape):
            raise _damaged(self.path, f"{member} gives {found.shape} for {len(values)} inputs")
        if not np.abs(found).max(initial=0) <= LARGEST[member]:  # of NaN neither is true
            raise _damaged(self.path, f"{member} gives numbers beyond {LARGEST[member]:g}, or none")
        return found

    def _network(self, member: str) -> _Network:
        return self._encoder if member == ENCODER else self._decoder

    @cached_property
    def _encoder(self) -> _Network:
        return self._loaded(ENCODER)

    @cached_property
    def _decoder(self) -> _Network:
        return self._loaded(DECODER)

    def _graph(self, member: str) -> Graph:
        from facemorph_core.bundle.graph import GraphRefused, read_graph

        sizes = {
            "image_size": self.manifest.image_size,
            "latent_dim": self.manifest.network_numbers,
        }
        try:
            return read_graph(
                bytes(self.members[member]), half=member.removesuffix(".onnx"), **sizes
            )
        except GraphRefused as error:
            raise _damaged(self.path, f"{member} is refused: {error}") from None

    def _loaded(self, member: str) -> _Network:
        graph = self._graph(member)
        checked = graph.model.SerializeToString()  # what was checked, as it was understood
        try:
            session = cpu_session(checked, threads=min(available_cores(), MAX_THREADS))
        except Exception as error:
            raise _damaged(self.path, f"{member} cannot be loaded: {_reason(error)}") from error
        return _Network(session, max(1, min(CHUNK, PASS_BYTES // graph.face_bytes)))

    def _chunked(
        self,
        member: str,
        function: Callable[[NDArray[Any]], NDArray[Any]],
        values: NDArray[Any],
    ) -> NDArray[Any]:
        some = values if len(values) else np.zeros((1, *values.shape[1:]), values.dtype)
        step = self._network(member).faces
        parts = [function(some[start : start + step]) for start in range(0, len(some), step)]
        return np.concatenate(parts)[: len(values)]


def open_bundle(path: Path | str) -> Bundle:
    """Read ``path`` and verify every byte of it.

    The networks are checked and loaded at first use; `verify` does that too, at once.

    Raises:
        BundleError: the file is missing, damaged, of another version, or not one of ours.

    Examples:
        >>> from facemorph_core.bundle.find import find_model
        >>> manifest = open_bundle(find_model("starter")).manifest
        >>> manifest.name, manifest.kind, manifest.latent_dim, manifest.geometry
        ('starter', 'vae', 128, 'mean_shape')
    """
    path = Path(path)
    data = _read_file(path)
    try:
        members = unpack(data)
    except NotCanonical as error:
        raise _damaged(path, str(error)) from None
    if list(members) != [MANIFEST, *MEMBERS]:
        raise _damaged(path, f"it holds {', '.join(map(repr, members)) or 'nothing'}")
    manifest = _read_manifest(path, bytes(members[MANIFEST]))
    _check_members(path, manifest, members)
    _check_card(path, bytes(members[CARD]))
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest(), members)


def verify(path: Path | str) -> Bundle:
    """`open_bundle`, and the networks reproduce the test vector within tolerance."""
    bundle = open_bundle(path)
    bundle.check_reference()
    return bundle


def to_model(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, S, S, 3) uint8 -> (n, 3, S, S) float32 in [-1, 1]."""
    scaled = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def from_model(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, 3, S, S) in [-1, 1] -> (n, S, S, 3) uint8, rounded to the nearest level."""
    levels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise BundleError(f"{path} {what}; a .facemorph file is expected")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _damaged(path, f"it is larger than {MAX_BYTES / 2**30:g} GiB")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error


class _Version(BaseModel):
    format_version: int


def _read_manifest(path: Path, text: bytes) -> Manifest:
    if len(text) > MAX_MANIFEST:
        raise _damaged(path, f"its manifest is larger than {MAX_MANIFEST} bytes")
    try:
        version = _Version.model_validate_json(text).format_version
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{path} has bundle format {version}; this facemorph-core reads {FORMAT_VERSION}",
                hint="pip install --upgrade facemorph-core",
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ascii(".".join(str(part) for part in first["loc"]))
        raise _damaged(path, f"its manifest is not valid ({where}: {first['msg']})") from None


def _check_card(path: Path, text: bytes) -> None:
    if len(text) > MAX_CARD:
        raise _damaged(path, f"its card is larger than {MAX_CARD} bytes")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise _damaged(path, f"its card is not UTF-8 (byte {error.start})") from None


def _check_members(path: Path, manifest: Manifest, members: Mapping[str, memoryview]) -> None:
    if set(manifest.members) != set(MEMBERS):
        raise _damaged(path, "its manifest lists other members than the file holds")
    for name, stated in manifest.members.items():
        data = members[name]
        if len(data) != stated.size or hashlib.sha256(data).hexdigest() != stated.sha256:
            raise _damaged(path, f"{name} is not the one that the manifest describes")


def _damaged(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"{path} is damaged or not a facemorph bundle: {reason}",
        hint="copy or fetch it again, or make it anew with `facemorph-core bundle RUN`",
    )


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
