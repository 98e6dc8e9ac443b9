"""Remarks on what a hardening run was given."""

from __future__ import annotations

from cloakify.data import Splits
from cloakify.report.records import GivenCopies

# Samples below which neither a choice nor a figure means much.
FEW = 30


def few_samples(splits: Splits) -> tuple[str, ...]:
    """Say where too few samples choose a mask or judge it."""
    chosen, reported = len(splits.select), len(splits.report)
    if min(chosen, reported) >= FEW:
        return ()
    return (
        f"the choice among masks rests on {chosen} sample{'s' * (chosen != 1)} and the figures on "
        f"{reported}: give more data for either to mean much",
    )


def stray_copies(copies: GivenCopies | None) -> tuple[str, ...]:
    """Tell of given copies that no attack within the budget could have made."""
    if copies is None:
        return ()
    (at,) = copies.within
    if not at.outside_ball and not at.outside_box:
        return ()
    return (
        f"of the given copies {at.outside_ball} lie outside the budget and {at.outside_box} "
        "outside the box: they calibrate as they are, and the static figure is on them",
    )
