"""A classifier whose gates can be set: attacks and ∂loss/∂gate for any values of them.

The gates are inputs of every graph, so one session each serves the whole of a tuning run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto

from cloakify.attacks import Target
from cloakify.graph.analysis.gate_sites import GateSite
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.attack_steps.build import LOGITS, LOSS
from cloakify.graph.attack_steps.gate_gradient import DISTRIBUTION, SUFFIX, build_gate_gradient
from cloakify.graph.edit.gates import gate_name, open_gates
from cloakify.numeric.arrays import Array, Doubles, filled, floats
from cloakify.runtime import BatchSize, Device, Session


@dataclass(frozen=True)
class GateGradient:
    """What a pass over n samples returns.

    Attributes
    ----------
    logits
        [n, C].
    loss
        Sum over the samples.
    gradient
        ∂loss/∂gate, float64, of all gates in one vector.
    """

    logits: Array
    loss: float
    gradient: Doubles


class GatedModel:
    """A classifier with gates on some of its layers, all 1 at first.

    Parameters
    ----------
    model
        The source with its weights in it.
    sites
        Where the gates stand.
    spec, scores
        Its input, and what it is judged by.
    sample_shape
        Shape of one sample, without the batch axis.
    device, batch_size, threads
        As for :class:`~cloakify.attacks.Target`.

    Attributes
    ----------
    target
        The gated classifier as a target of attacks; it has the gates that were set last.
    """

    def __init__(
        self,
        model: ModelProto,
        sites: Sequence[GateSite],
        spec: InputSpec,
        scores: Scores,
        sample_shape: tuple[int, ...],
        device: Device,
        batch_size: int | BatchSize,
        threads: int = 0,
    ) -> None:
        self.sites = tuple(sites)
        self._sample_shape = sample_shape
        self._model = open_gates(model, self.sites)
        self.target = Target(self._model, spec, scores, device, batch_size, threads)
        self._session: tuple[int, Session] | None = None
        self._ends = np.cumsum([site.channels for site in sites])
        self.set(np.ones(self.count))

    @property
    def count(self) -> int:
        """How many gates there are."""
        return int(self._ends[-1])

    def split(self, gates: Doubles) -> list[Doubles]:
        """Cut a vector of all gates into one for each site."""
        return np.split(gates, self._ends[:-1])

    def set(self, gates: Doubles) -> None:
        """Set all gates, given as one vector in the order of the sites."""
        self.target.constants = {
            gate_name(number): values.astype(_dtype(site)).reshape(site.shape)
            for number, (site, values) in enumerate(zip(self.sites, self.split(gates), strict=True))
        }

    def gradient(self, x: Array, soft_labels: Array) -> GateGradient:
        """Return ∂(Σ loss)/∂gate.

        Parameters
        ----------
        x
            Samples [n, …].
        soft_labels
            [n, C]: the distribution that the cross-entropy is taken with, times the sample's
            weight; of K labels [n, 2 K], the weights with which each is to hold and not to hold.
        """
        return self.target.within_memory(lambda: self._gradient(x, soft_labels))

    def _gradient(self, x: Array, soft_labels: Array) -> GateGradient:
        target, size = self.target, self.target.batch_size
        session = self._session_for(size)
        constants = {n: floats(v) for n, v in target.constants.items()}

        def run(start: int) -> GateGradient:
            part, goal = x[start : start + size], soft_labels[start : start + size]
            missing = size - len(part)
            # Without a weight a sample adds nothing.
            part, goal = filled(part, size), np.pad(goal, ((0, missing), (0, 0)))
            feeds = {target.spec.name: part, DISTRIBUTION: goal.astype(np.float32), **constants}
            outputs = session.run(feeds)
            return GateGradient(
                floats(outputs[LOGITS][: size - missing]),
                float(outputs[LOSS].sum(dtype=np.float64)),
                np.concatenate([outputs[name + SUFFIX].reshape(-1) for name in constants]),
            )

        parts = target.workers.map(run, range(0, len(x), size))
        return GateGradient(
            np.concatenate([part.logits for part in parts]),
            sum(part.loss for part in parts),
            # In their order, whoever was first.
            np.sum([part.gradient for part in parts], axis=0, dtype=np.float64),
        )

    def _session_for(self, size: int) -> Session:
        """Return the session for batches of a size; one of another size is let go."""
        if self._session is None or self._session[0] != size:
            self._session = None
            self._session = size, self._opened(size)
        return self._session[1]

    def _opened(self, size: int) -> Session:
        target = self.target
        shape = (size, *self._sample_shape)
        names = [gate_name(number) for number in range(len(self.sites))]
        built = build_gate_gradient(
            self._model,
            {target.spec.name: shape},
            target.scores.logits,
            names,
            independent=target.independent,
        )
        return Session(built, target.device, threads=target.workers.threads, both_ways=True)


def _dtype(site: GateSite) -> np.dtype[np.generic]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(site.element_type))
