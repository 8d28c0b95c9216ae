"""Third-party weights: `find` what is in the cache, `fetch` what is not. Needs no torch."""

from facemorph_core.weights.fetch import fetch, find, location, provenance
from facemorph_core.weights.table import WEIGHTS, Weights, known

__all__ = ["WEIGHTS", "Weights", "fetch", "find", "known", "location", "provenance"]
