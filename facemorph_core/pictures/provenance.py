"""What a picture says of itself: that it is synthetic, and what made it.

The note travels as XMP (ISO 16684-1), where IPTC's digital source type is what platforms read, and
in each format's own comment for people.

References:
    | IPTC Photo Metadata Standard 2024.1, Digital Source Type
    | https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from xml.sax.saxutils import quoteattr

__all__ = ["COMPOSED", "DRAWN", "TOOL", "Maker", "Note", "Provenance", "note_of"]

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN = f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for photos put together with what a model drew."""
COMPOSED = f"{_VOCABULARY}compositeCapture"
"""IPTC's word for photos put together, without anything else."""

TOOL = "facemorph-core"
"""What made the picture, in XMP's own property for it."""


@dataclass(frozen=True, slots=True)
class Note:
    """What goes into a file."""

    sentence: str
    """For people, in the format's own comment."""
    xmp: bytes
    """The packet for programs."""


class Provenance(Protocol):
    """What says where frames come from."""

    def note(self, places: Sequence[float] = ()) -> Note:
        """Of a file that shows frames at these places."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes synthetic pictures here, and what its own XMP properties are called."""

    prefix: str
    namespace: str
    """A URI; the number at its end is the version of the properties."""
    sentence: str
    """For people."""


def note_of(maker: Maker, properties: Mapping[str, str], *, drawn: bool) -> Note:
    """A note with the maker's ``properties``; ``drawn``: a model had a part in the picture."""
    listed = {
        "Iptc4xmpExt:DigitalSourceType": DRAWN if drawn else COMPOSED,
        "xmp:CreatorTool": TOOL,
    } | {f"{maker.prefix}:{name}": text for name, text in properties.items()}
    packet = _PACKET.format(
        prefix=maker.prefix,
        namespace=maker.namespace,
        properties="\n   ".join(f"{name}={quoteattr(text)}" for name, text in listed.items()),
        said=maker.sentence,
    )
    return Note(maker.sentence, packet.encode())


_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
   xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   xmlns:{prefix}="{namespace}"
   {properties}>
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{said}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
