"""All attacks, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.audit.distinguish import CHEATED, DRAWN, STILL, Guess, distinguish
from benchmarks.audit.leaks import Leaks, among_eight, code_of_one_photo, loss_drop
from benchmarks.audit.one_photo import gradient_error, influence
from benchmarks.audit.questions import Asked, ask_for_scores
from facemorph_core.latent.geometry import GEOMETRIES

KINDS = ("ae", "vae")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is tried."""

    photos: int
    """Of the sum from which one is taken away."""
    tries: int
    """Photos that are taken away."""
    trials: int
    """Rounds of each shard that the guesser sees."""
    questions: int
    members: int
    """Photos of the site whose round is looked at."""


QUICK = Size(photos=17, tries=3, trials=60, questions=60, members=100)
WHOLE = Size(photos=33, tries=6, trials=400, questions=600, members=200)


@dataclass(frozen=True, slots=True)
class Audit:
    """What the attacks found."""

    influence: dict[str, float]
    """Furthest that one photo moved the clipped sum, in bounds."""
    gradient_error: dict[str, float]
    """Largest relative error of a layer's per-photo gradient."""
    guesses: list[Guess]
    asked: Asked
    leaks: Leaks


def run_audit(size: Size, *, watch: Callable[[str], None] = lambda _: None) -> Audit:
    """Attack this checkout's own code on public photos; ``watch`` hears what is being done."""
    moved = {}
    for kind in KINDS:
        for geometry in GEOMETRIES:
            watch(f"one photo taken away: {kind}, {geometry}")
            moved[f"{kind}, {geometry}"] = influence(
                kind, geometry, size=32, count=size.photos, tries=size.tries
            )
    wrong = {}
    for side in (64, 128):
        watch(f"per-photo gradients at {side} px")
        wrong[f"{side} px"] = max(gradient_error(kind, size=side) for kind in KINDS)
    watch(f"{6 * size.trials} private rounds told apart")
    guesses = [distinguish(each, size.trials, watch=watch) for each in (DRAWN, STILL, CHEATED)]
    watch(f"{size.questions} questions by scoring")
    asked = ask_for_scores(size.questions)
    return Audit(moved, wrong, guesses, asked, _leaks(size, watch))


def _leaks(size: Size, watch: Callable[[str], None]) -> Leaks:
    watch("codes read off a single step")
    one_photo = {name: code_of_one_photo(name, seed=0) for name in ("adam", "muon")}
    eight = among_eight(seed=0, others=size.members)
    rounds = {}
    for name, optimiser, private in (
        ("Muon", "muon", False),
        ("Adam", "adam", False),
        ("Adam under DP-SGD, noise 1", "adam", True),
    ):
        watch(f"whose photos were in a round: {name}")
        rounds[name] = loss_drop(size.members, optimiser=optimiser, private=private, seed=0)  # type: ignore[arg-type]
    return Leaks(one_photo, eight, rounds)
