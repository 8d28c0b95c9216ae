"""Third-party weights: `find` what is in the cache, `fetch` what is not. Needs no torch."""

from facemorph_core.learning.weights.fetch import fetch, find, location, provenance
from facemorph_core.learning.weights.table import WEIGHTS, Weights, known

__all__ = ["WEIGHTS", "Weights", "fetch", "find", "known", "location", "provenance"]
