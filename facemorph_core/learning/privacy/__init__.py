"""What was released about the photos, what it costs, and what a site allows.

The unit (`unit`) is one photo at one site, the relation add/remove; epsilon is always composed
over all that the site's ledger holds about a photo.
"""

from facemorph_core.learning.privacy.accountant import epsilon
from facemorph_core.learning.privacy.events import Event, GaussianSteps, PlainRelease
from facemorph_core.learning.privacy.heads import Heads
from facemorph_core.learning.privacy.ledger import Ledger
from facemorph_core.learning.privacy.limits import SiteLimits, load_limits
from facemorph_core.learning.privacy.photos import PhotoSet, photos_of
from facemorph_core.learning.privacy.site_ledger import SiteLedger
from facemorph_core.learning.privacy.spent import Spent
from facemorph_core.learning.privacy.told import Told, read_told

__all__ = [
    "Event",
    "GaussianSteps",
    "Heads",
    "Ledger",
    "PhotoSet",
    "PlainRelease",
    "SiteLedger",
    "SiteLimits",
    "Spent",
    "Told",
    "epsilon",
    "load_limits",
    "photos_of",
    "read_told",
]
