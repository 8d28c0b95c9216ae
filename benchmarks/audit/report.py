"""What the audit says: Markdown for the docs, JSON for a machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.audit.run import Audit
from benchmarks.audit.scores import Told
from benchmarks.table import markdown_table


def to_json(audit: Audit) -> dict[str, Any]:
    """Everything."""
    return asdict(audit)


def to_markdown(audit: Audit) -> str:
    """Two tables: what must hold, and what the weights alone tell."""
    law = [
        ("one photo moves the clipped sum, in bounds", f"{max(audit.influence.values()):.4f}", "1"),
        ("error of per-photo gradients", f"{max(audit.gradient_error.values()):.0e}", "0"),
    ]
    law += [
        (
            f"epsilon proved by telling {guess.trials} + {guess.trials} rounds apart, "
            f"{guess.mechanism} (AUC {guess.auc:.2f})",
            f"{guess.least:.2f}",
            f"{guess.claimed:.2f}",
        )
        for guess in audit.guesses
    ]
    asked = audit.asked
    law.append(
        (
            f"answers without a charge to {asked.questions} crafted questions by scoring",
            f"{asked.answered - asked.charged}",
            "0",
        )
    )
    leaks = audit.leaks
    told = [
        (f"code of the only photo of one step, {name}", f"cosine {cosine:.3f}", "")
        for name, cosine in leaks.one_photo.items()
    ]
    told.append(("who is among eight photos of one step", *_told(leaks.eight_photos)))
    for name, round_ in leaks.whole_round.items():
        what = f"whose photos are among the {round_.members} of a round, {name}"
        told.append((what, *_told(round_)))
    return (
        markdown_table(("differential privacy", "measured", "allowed"), law)
        + "\n"
        + markdown_table(("what weights tell", "found", "named at 1 % false alarms, %"), told)
    )


def _told(found: Told) -> tuple[str, str]:
    low, high = found.auc_between
    return f"AUC {found.auc:.2f} [{low:.2f}, {high:.2f}]", f"{100 * found.at_one_percent:.0f}"
