"""Data that do not fit a model's answer may fit another of its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloakify.data import Dataset
from cloakify.errors import DataError
from cloakify.graph.analysis.other_answers import OutputChoice


@contextmanager
def naming_outputs(choice: OutputChoice, dataset: Dataset) -> Iterator[None]:
    """Add to a DataError of the block which other output has as many scores as the labels need."""
    try:
        yield
    except DataError as error:
        fitting = [name for name, count in choice.others if _fits(dataset, count)]
        if not fitting:
            raise
        ways = " or ".join(f"--output-name {name}" for name in fitting)
        raise DataError(
            f"{error}. That is of output {choice.taken!r}; {ways} takes one that these labels fit"
        ) from None


def _fits(dataset: Dataset, count: int) -> bool:
    """Tell whether labels may be of so many classes."""
    if dataset.class_names is not None:
        return len(dataset.class_names) == count
    if dataset.labels is None or not dataset.labels.size:
        return False
    if dataset.labels.ndim == 2:
        return bool(dataset.labels.shape[1] == count)
    return int(dataset.labels.max()) < count
