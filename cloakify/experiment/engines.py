"""The engines of a run, each for a subject."""

from __future__ import annotations

from cloakify.engine.engine import Engine
from cloakify.engine.local import LocalEngine
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.labelling import label_by_model
from cloakify.experiment.subject import Subject
from cloakify.numeric.arrays import Labels


class Engines:
    """Opens engines as settings say.

    Parameters
    ----------
    progress
        Told of the work that opening an experiment takes.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on(self, subject: Subject) -> Engine[Subject]:
        """Return an engine for a subject."""
        return LocalEngine(subject)

    def label(self, experiment: Experiment) -> Labels:
        """Return a model's own answers to the samples of an experiment without labels."""
        subject = Subject([experiment])
        return label_by_model(subject, self.on(subject), self._progress)
