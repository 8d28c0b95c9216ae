"""Face autoencoders trained across sites that keep their photos, and a morph tool on top.

Importing this package is cheap: what a name needs is imported when the name is first used. It comes
before all that would report to its maker, and switches that off.

Examples:
    Photos are files, pictures or arrays; here the model draws two faces, so that none is needed.

    >>> import facemorph_core, numpy as np
    >>> drawn = facemorph_core.Morpher().bundle.decode(np.array([[0.0] * 128, [0.5] * 128]))
    >>> sequence = facemorph_core.morph(*drawn, steps=5, size=128)
    >>> sequence.frames.shape, sequence.alphas.tolist()
    ((5, 128, 128, 3), [0.0, 0.25, 0.5, 0.75, 1.0])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from facemorph_core.machine.quiet import switch_off

if TYPE_CHECKING:
    from facemorph_core.bundle.read import open_bundle
    from facemorph_core.errors import FaceMorphError
    from facemorph_core.morphing.blend import MorphBlend
    from facemorph_core.morphing.engine import Morpher
    from facemorph_core.morphing.morph import average, generate_morph_sequence, morph
    from facemorph_core.morphing.sequence import MorphSequence

    __version__: str

__all__ = [
    "FaceMorphError",
    "MorphBlend",
    "MorphSequence",
    "Morpher",
    "__version__",
    "average",
    "generate_morph_sequence",
    "morph",
    "open_bundle",
]

switch_off()

_HOMES = {
    "FaceMorphError": "facemorph_core.errors",
    "MorphBlend": "facemorph_core.morphing.blend",
    "MorphSequence": "facemorph_core.morphing.sequence",
    "Morpher": "facemorph_core.morphing.engine",
    "average": "facemorph_core.morphing.morph",
    "generate_morph_sequence": "facemorph_core.morphing.morph",
    "morph": "facemorph_core.morphing.morph",
    "open_bundle": "facemorph_core.bundle.read",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("facemorph-core")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
