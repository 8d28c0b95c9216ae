"""What was released about the photos, and what it costs.

The unit is one photo at one site, the relation add/remove; epsilon is always composed over the
whole ledger of the site.
"""

from facemorph_core.privacy.accountant import epsilon
from facemorph_core.privacy.events import GaussianSteps
from facemorph_core.privacy.ledger import Ledger, charge, read_ledger, record

__all__ = ["GaussianSteps", "Ledger", "charge", "epsilon", "read_ledger", "record"]
