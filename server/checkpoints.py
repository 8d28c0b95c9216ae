"""The weights of a run's rounds on the disk, by the number of the round."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from facemorph_core.disk.records import numbered, write_atomic
from facemorph_core.errors import FederationError

__all__ = ["Arrays", "Checkpoints", "OwnArrays"]

OwnArrays = dict[str, NDArray[np.float32]]
Arrays = Mapping[str, NDArray[np.float32]]
_KINDS, _SUFFIX = ("round", "optimiser"), ".safetensors"
_MEMORY = "memory"
"""A note in the weights that memory belongs to them; none in those of earlier versions."""


class Checkpoints:
    """``checkpoints/`` of a run directory."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / "checkpoints"

    def rounds(self) -> list[int]:
        """The rounds whose weights are there, in their order."""
        return list(numbered(self.folder, "round", _SUFFIX))

    def files(self, *, after: int) -> list[Path]:
        """All files of the rounds past ``after``."""
        return [path for number, path in self._all() if number > after]

    def save(self, number: int, weights: Arrays, memory: Arrays) -> None:
        """Put a round on the disk, its weights last: they make it count."""
        if memory:
            write_atomic(self._file("optimiser", number), save(_plain(memory)))
        note = {_MEMORY: "beside"} if memory else None
        write_atomic(self._file("round", number), save(_plain(weights), metadata=note))

    def load(self, number: int) -> tuple[OwnArrays, OwnArrays]:
        """Weights and memory of a round.

        Raises:
            FederationError: they are not there or damaged, with the way back.
        """
        try:
            weights = load_file(self._file("round", number))
            if not self._has_memory(number):
                return weights, {}
            return weights, load_file(self._file("optimiser", number))
        except (OSError, safetensors.SafetensorError) as error:
            raise self.unusable(number, f"cannot be read: {error}") from None

    def unusable(self, number: int, problem: str) -> FederationError:
        """What to say of a round that cannot be gone on from."""
        before = self.newest_readable(before=number)
        if before is None:
            way = f"no earlier round can be read: move {self.run} away and start anew"
        else:
            way = f"go back to round {before}: python -m server rollback {self.run} --to {before}"
        return FederationError(f"the checkpoint of round {number} {problem}", hint=way)

    def newest_readable(self, *, before: int) -> int | None:
        """The newest earlier round whose files are whole."""
        return next((n for n in reversed(self.rounds()) if n < before and self.whole(n)), None)

    def whole(self, number: int) -> bool:
        """Whether a round's files can be read and none is cut short; looks at their heads only."""
        try:
            if self._has_memory(number):
                _head(self._file("optimiser", number))
        except (OSError, safetensors.SafetensorError):
            return False
        return True

    def keep(self, kept: Collection[int]) -> None:
        """Remove the other rounds' files."""
        for number, path in self._all():
            if number not in kept:
                path.unlink(missing_ok=True)

    def _has_memory(self, number: int) -> bool:
        """Whether it lies beside the weights, or they say that it did."""
        note = _head(self._file("round", number))
        return _MEMORY in note or self._file("optimiser", number).exists()

    def _file(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:04d}{_SUFFIX}"

    def _all(self) -> list[tuple[int, Path]]:
        return [item for kind in _KINDS for item in numbered(self.folder, kind, _SUFFIX).items()]


def _head(file: Path) -> Mapping[str, str]:
    """The notes of a file that is not cut short."""
    with safetensors.safe_open(file, framework="np") as opened:
        return opened.metadata() or {}


def _plain(arrays: Arrays) -> OwnArrays:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
