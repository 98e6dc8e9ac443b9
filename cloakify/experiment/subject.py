"""What an engine works on: opened classifiers with one set of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from onnx import ModelProto

from cloakify.attacks import Target
from cloakify.data import Batch, Copies
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.mask_input import MaskInput
from cloakify.numeric.arrays import Array, Indices


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit of the first classifier; weights that lie in sidecars stay there.

    Attributes
    ----------
    name
        Another one for every edit of a run; a part of files' names.
    model
        The message.
    mask
        The mask [D] that is all that was put in, or ``None``.
    """

    name: str
    model: ModelProto
    mask: Array | None = None


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
    masked
        Whether the first classifier will be compared with itself under masks: one graph's gradients
        then serve all of them.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        copies: Copies | None = None,
        *,
        masked: bool = False,
    ) -> None:
        self.experiments, self.copies, self._masked = tuple(experiments), copies, masked
        self._edits: dict[str, Target] = {}

    @property
    def first(self) -> Experiment:
        """The first experiment."""
        return self.experiments[0]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The classifiers as targets of attacks."""
        followed = self.masks.followed() if self._masked else None
        first = self.first.target(followed=followed)
        return (first, *(experiment.target() for experiment in self.experiments[1:]))

    @cached_property
    def masks(self) -> MaskInput:
        """The first classifier with its mask as an input."""
        return MaskInput(self.first)

    def target(self, which: Which) -> Target:
        """Return a classifier, or an edit of the first, as a target; it stays open."""
        if isinstance(which, int):
            return self.targets[which]
        if which.name not in self._edits:
            shared = self._masked and which.mask is not None
            followed = self.masks.followed(which.mask) if shared else None
            self._edits[which.name] = self.first.target(which.model, followed)
        return self._edits[which.name]

    def load(self, indices: Indices) -> Batch:
        """Read samples."""
        return self.first.dataset.batch(indices)


def name_of(which: Which) -> str:
    """Return a short name, for tasks."""
    return which.name if isinstance(which, Edit) else str(which)
