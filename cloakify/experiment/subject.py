"""What an engine works on: opened classifiers with one set of data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, cast

import onnxruntime as ort
from onnx import ModelProto

from cloakify.attacks import Attack, Target
from cloakify.attacks.given import Given
from cloakify.data import Batch, Copies, Dataset
from cloakify.data.unlabelled import Unlabelled
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.mask_input import MaskInput
from cloakify.masking.linear_head import LinearHead, read_head
from cloakify.numeric.arrays import Array, Indices

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False, repr=False)
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

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.model.SerializeToString(deterministic=True)).hexdigest()

    def __repr__(self) -> str:
        return f"Edit({self.name!r}, {self._digest})"


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
    further
        The samples with others behind them, which have no labels: what is read then.
    masked
        Whether the first classifier will be compared with itself under masks: one graph's gradients
        then serve all of them.
    needs_head
        How the classifiers were opened; see
        :func:`~cloakify.experiment.classifier.open_classifier`.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        copies: Copies | None = None,
        further: Unlabelled | None = None,
        *,
        masked: bool = False,
        needs_head: bool = False,
    ) -> None:
        self.experiments, self.copies, self.further = tuple(experiments), copies, further
        self.masked, self.needs_head = masked, needs_head
        self._edits: dict[str, Target] = {}
        self._heads: dict[int, LinearHead] = {}
        self._made: dict[str, object] = {}

    @property
    def first(self) -> Experiment:
        """The first experiment."""
        return self.experiments[0]

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The classifiers as targets of attacks."""
        followed = self.masks.followed() if self.masked else None
        first = self.first.target(followed=followed)
        return (first, *(experiment.target() for experiment in self.experiments[1:]))

    @cached_property
    def masks(self) -> MaskInput:
        """The first classifier with its mask as an input."""
        return MaskInput(self.first)

    def linear_head(self, rank: int) -> LinearHead:
        """Return the first classifier's head as numbers, for features of that rank."""
        if rank not in self._heads:
            classifier = self.first.classifier
            read = read_head(classifier.model, classifier.head, rank, self.first.device.host)
            self._heads[rank] = read.of_classes(classifier.scores)
        return self._heads[rank]

    def target(self, which: Which) -> Target:
        """Return a classifier, or an edit of the first, as a target; it stays open."""
        if isinstance(which, int):
            return self.targets[which]
        if which.name not in self._edits:
            shared = self.masked and which.mask is not None
            followed = self.masks.followed(which.mask) if shared else None
            self._edits[which.name] = self.first.target(which.model, followed)
        return self._edits[which.name]

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """Return what was made under a name, or make it; it is kept until all is let go."""
        if name not in self._made:
            self._made[name] = make()
        return cast(Made, self._made[name])

    def let_go(self) -> None:
        """Close what is open, between stages that have not much of it in common."""
        self._made.clear()
        for target in (*self.targets, *self._edits.values()):
            target.let_go()

    def attack(self, attack: Attack) -> Attack:
        """Return an attack as it is, or what hands out copies with those of this subject."""
        return Given(self.copies) if isinstance(attack, Given) else attack

    def load(self, indices: Indices) -> Batch:
        """Read samples."""
        return self._samples.batch(indices)

    def digest_at(self, indices: Indices) -> str:
        """Return a name for samples; see :meth:`cloakify.data.Dataset.digest_at`."""
        return self._samples.digest_at(indices)

    def digest_read(self, indices: Indices) -> str:
        """Return the same name, reading these samples alone."""
        return self._samples.digest_read(indices)

    @property
    def _samples(self) -> Dataset | Unlabelled:
        return self.first.dataset if self.further is None else self.further

    @property
    def runtime(self) -> tuple[str, str]:
        """ONNX Runtime's provider, and its version."""
        return self.first.device.described, ort.__version__


def name_of(which: Which) -> str:
    """Return a short name, for tasks."""
    return which.name if isinstance(which, Edit) else str(which)
