"""From a run to what others use: ONNX, manifest, test vector, in one bundle."""

from facemorph_core.learning.release.from_run import bundle_run
from facemorph_core.learning.release.write import write_bundle

__all__ = ["bundle_run", "write_bundle"]
