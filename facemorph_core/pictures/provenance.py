"""What a morph says of itself: that it is synthetic, by which model and how far between the photos.

The note travels as XMP (ISO 16684-1), where IPTC's digital source type is what platforms read, and
in each format's own comment for people. It names no photo and no person, and holds no time: the
same morph is the same file.

References:
    | IPTC Photo Metadata Standard 2024.1, Digital Source Type
    | https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from facemorph_core.morphing.choices import Mode

__all__ = ["NOTE", "SOURCE_TYPES", "Provenance"]

NOTE = "Synthetic image: a face morph made with facemorph-core."
NAMESPACE = "urn:facemorph:morph:1"
"""Of our own XMP properties; the number is their version."""
_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCE_TYPES: dict[Mode, str] = {
    "full": f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia",
    "latent": f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia",
    "landmark": f"{_VOCABULARY}compositeCapture",
}
"""IPTC's words: photos put together with what a model drew, or photos alone."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where frames come from."""

    mode: Mode
    model: str
    model_sha256: str

    def packet(
        self,
        alphas: Sequence[float] = (),
        *,
        weights: Sequence[Sequence[float]] = (),
        modes: Sequence[Mode] = (),
    ) -> bytes:
        """The XMP packet of a file with frames at ``alphas``, or of the photos' ``weights``.

        ``modes`` are those of a picture that shows several beside each other.
        """
        shown = modes or (self.mode,)
        drawn: Mode = next((mode for mode in shown if mode != "landmark"), "landmark")
        properties = {
            "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPES[drawn],
            "xmp:CreatorTool": "facemorph-core",
            "morph:Mode": " ".join(shown),
            "morph:Model": self.model,
            "morph:ModelSHA256": self.model_sha256,
        }
        if alphas:
            properties["morph:Alpha"] = _numbers(alphas)
        if weights:
            properties["morph:Weights"] = ", ".join(map(_numbers, weights))
        listed = "\n   ".join(f"{name}={quoteattr(text)}" for name, text in properties.items())
        return _PACKET.format(namespace=NAMESPACE, properties=listed, note=NOTE).encode()


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
   xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   xmlns:morph="{namespace}"
   {properties}>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{note}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
