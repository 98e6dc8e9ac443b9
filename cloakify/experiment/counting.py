"""From amounts of work that are done to progress."""

from __future__ import annotations

from collections.abc import Callable

from cloakify.experiment.experiment import Progress


def counted(progress: Progress, stage: str, total: int, done: int = 0) -> Callable[[int], None]:
    """Return what takes amounts of work as they are done, and tells how much of a stage is.

    Parameters
    ----------
    total, done
        The whole work, and what of it was done before.
    """

    def add(amount: int) -> None:
        nonlocal done
        done += amount
        progress(stage, done, total)

    add(0)
    return add
