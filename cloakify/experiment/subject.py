"""What an engine works on: opened classifiers with one set of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from onnx import ModelProto

from cloakify.attacks import Target
from cloakify.data import Batch, Copies
from cloakify.experiment.experiment import Experiment
from cloakify.numeric.arrays import Indices


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit of the first classifier; weights that lie in sidecars stay there.

    Attributes
    ----------
    name
        Another one for every edit of a run; a part of files' names.
    model
        The message.
    """

    name: str
    model: ModelProto


Which = int | Edit
"""One of the experiments' classifiers, by its number, or an edit of the first."""

SOURCE = 0


class Subject:
    """Experiments on the same samples; the first one's data is what tasks are handed.

    Parameters
    ----------
    experiments
        At least one.
    copies
        Attacked copies of the samples that were given.
    """

    def __init__(self, experiments: Sequence[Experiment], copies: Copies | None = None) -> None:
        self.experiments, self.copies = tuple(experiments), copies
        self._edits: dict[str, Target] = {}

    @property
    def first(self) -> Experiment:
        """The first experiment."""
        return self.experiments[0]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The classifiers as targets of attacks."""
        return tuple(experiment.target() for experiment in self.experiments)

    def target(self, which: Which) -> Target:
        """Return a classifier, or an edit of the first, as a target; it stays open."""
        if isinstance(which, int):
            return self.targets[which]
        if which.name not in self._edits:
            self._edits[which.name] = self.first.target(which.model)
        return self._edits[which.name]

    def load(self, indices: Indices) -> Batch:
        """Read samples."""
        return self.first.dataset.batch(indices)


def name_of(which: Which) -> str:
    """Return a short name, for tasks."""
    return which.name if isinstance(which, Edit) else str(which)
