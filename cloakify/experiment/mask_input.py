"""One graph for all masks: those of a run differ in the values of an input."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from onnx import ModelProto

from cloakify.attacks import Target
from cloakify.attacks.target_sessions import Followed
from cloakify.experiment.experiment import Experiment
from cloakify.graph.edit.mask import features_type, insert_mask, mask_as_input, mask_values
from cloakify.numeric.arrays import Array


class MaskInput:
    """The classifier with its mask as an input; what is opened of it serves any mask.

    Verdicts on a file come from the file itself. What is shared are the gradients that attacks
    follow, which take most of the memory and most of the time until a graph is open.

    Parameters
    ----------
    experiment
        The classifier and its data.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def followed(self, mask: Array | None = None) -> Followed | None:
        """Return whose gradients to follow under a mask [D]; without one, under that of ones.

        ``None`` where samples are values inside the graph: the cut takes nothing besides them.
        """
        if self._experiment.latent is not None:
            return None
        return Followed(self._opened.sessions, self._constants(mask))

    def target(self, mask: Array) -> Target:
        """Return the classifier with a mask as a target of attacks."""
        experiment = self._experiment
        if experiment.latent is not None:
            classifier = experiment.classifier
            return experiment.target(insert_mask(classifier.file.model, classifier.head, mask, {}))
        # As its constants change from call to call, there is one at a time.
        self._opened.constants.update(self._constants(mask))
        return self._opened

    def _constants(self, mask: Array | None) -> dict[str, Array]:
        head = self._experiment.classifier.head
        factors = np.ones(head.num_features) if mask is None else mask
        return {self._edit[1]: mask_values(self._element_type, head, factors)}

    @cached_property
    def _edit(self) -> tuple[ModelProto, str]:
        classifier = self._experiment.classifier
        return mask_as_input(classifier.file.model, classifier.head)

    @cached_property
    def _element_type(self) -> int:
        classifier = self._experiment.classifier
        return features_type(classifier.file.model, classifier.head)

    @cached_property
    def _opened(self) -> Target:
        return self._experiment.target(self._edit[0])
