"""What a site's ledger says of its photos, asked as a round asks it."""

from __future__ import annotations

import pytest

from facemorph_core.errors import BudgetExhausted
from facemorph_core.learning.privacy import GaussianSteps, SiteLedger
from facemorph_core.learning.privacy.photos import PhotoSet


def spent_of(ledger: SiteLedger, photos: PhotoSet, delta: float) -> float:
    """Epsilon of all releases about ``photos``, at ``delta`` or the smallest they were made at.

    No release fits a budget of nothing: it is refused, with what was spent, and not written.
    """
    with pytest.raises(BudgetExhausted) as refused:
        ledger.charge(photos, GaussianSteps(1.0, 0.5, 1), delta=delta, limit=0.0)
    return refused.value.spent
