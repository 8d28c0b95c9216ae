"""From a run to what others use: ONNX, manifest, test vector, in one bundle."""

from facemorph_core.export.bundle import write_bundle
from facemorph_core.export.from_run import bundle_run

__all__ = ["bundle_run", "write_bundle"]
