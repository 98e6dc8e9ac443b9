"""A classifier whose gates and shifts can be set: attacks and gradients for any values of them.

They are inputs of every graph, so one session each serves the whole of a tuning run. Where nothing
else is said, "gates" speaks of shifts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

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
from cloakify.graph.edit.taps import tap
from cloakify.numeric.arrays import Array, Doubles, Indices, filled, floats
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
    """A classifier with gates on some of its layers, all 1 at first, and perhaps shifts of 0.

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
        # Workers may ask for it at the same time.
        self._opening = Lock()
        self.set(self.neutral)

    @property
    def count(self) -> int:
        """How many gates there are."""
        return sum(site.channels for site in self.sites)

    @property
    def neutral(self) -> Doubles:
        """Gates of 1 and shifts of 0: those of the source."""
        return neutral_gates(self.sites)

    def split(self, gates: Doubles) -> list[Doubles]:
        """Cut a vector of all gates into one for each site."""
        return split_gates(gates, self.sites)

    def set(self, gates: Doubles) -> None:
        """Set all gates, given as one vector in the order of the sites."""
        self.target.constants = {
            gate_name(number, site): values.astype(_dtype(site)).reshape(site.shape)
            for number, (site, values) in enumerate(zip(self.sites, self.split(gates), strict=True))
        }

    def shift_units(self, x: Array) -> Doubles:
        """Return how large the outputs are that shifts are added to; sets gates of 1.

        Parameters
        ----------
        x
            Samples [n, …].

        Returns
        -------
        Doubles
            [count]: for a shift the root mean square of its layer's output on them (1 where that
            is 0), for a gate 0.
        """
        self.set(self.neutral)
        names = list(dict.fromkeys(site.output for site in self.sites if site.adds))
        sizes = self.target.within_memory(lambda: self._sizes(x, names)) if names else {}
        units = [
            np.full(site.channels, (sizes[site.output] or 1.0) if site.adds else 0.0)
            for site in self.sites
        ]
        return np.concatenate(units)

    def _sizes(self, x: Array, names: Sequence[str]) -> dict[str, float]:
        """Return the root mean square of each of these values on samples [n, …]."""
        target, size = self.target, self.target.batch_size
        session = Session(
            tap(self._model, names), target.device, threads=target.workers.threads, both_ways=True
        )

        def run(start: int) -> Doubles:
            part = x[start : start + size]
            rows = filled(part, size).astype(target.spec.dtype, copy=False)
            feeds = {target.spec.name: rows, **target.constants}
            values = session.run(feeds)
            # Sample by sample: their sum does not depend on how they were batched.
            sizes = [values[name].reshape(size, -1).astype(np.float64) for name in names]
            return np.stack([np.square(row[: len(part)]).mean(axis=1) for row in sizes])

        parts = target.workers.map(run, range(0, len(x), size))
        roots = np.sqrt(np.concatenate(list(parts), axis=1).mean(axis=1))
        return dict(zip(names, roots.tolist(), strict=True))

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
        constants = {n: session.as_taken(n, v) for n, v in target.constants.items()}

        def run(start: int) -> GateGradient:
            part, goal = x[start : start + size], soft_labels[start : start + size]
            missing = size - len(part)
            # Without a weight a sample adds nothing.
            part, goal = filled(part, size), np.pad(goal, ((0, missing), (0, 0)))
            fed = {target.spec.name: part, DISTRIBUTION: goal}
            feeds = {name: session.as_taken(name, array) for name, array in fed.items()}
            outputs = session.run({**feeds, **constants})
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
        with self._opening:
            if self._session is None or self._session[0] != size:
                self._session = None
                self._session = size, self._opened(size)
            return self._session[1]

    def _opened(self, size: int) -> Session:
        target = self.target
        shape = (size, *self._sample_shape)
        names = [gate_name(number, site) for number, site in enumerate(self.sites)]
        built = build_gate_gradient(
            self._model,
            {target.spec.name: shape},
            target.scores.logits,
            names,
            independent=target.independent,
        )
        return Session(built, target.device, threads=target.workers.threads, both_ways=True)


def neutral_gates(sites: Sequence[GateSite]) -> Doubles:
    """Return gates of 1 and shifts of 0, [count]."""
    return np.concatenate([np.full(site.channels, 1.0 - site.adds) for site in sites])


def split_gates(gates: Doubles, sites: Sequence[GateSite]) -> list[Doubles]:
    """Cut a vector of all gates into one for each site."""
    return np.split(gates, np.cumsum([site.channels for site in sites])[:-1])


def channels_of(sites: Sequence[GateSite]) -> Indices | None:
    """Return which channel each gate or shift belongs to, int64 [count], numbered over all sites.

    ``None`` where each is its channel's only one.
    """
    if not any(site.by_position for site in sites):
        return None
    numbered, first = [], 0
    for site in sites:
        channels = site.shape[1] if site.by_position else site.channels
        own = np.repeat(np.arange(channels), site.channels // channels)
        numbered.append(first + own)
        first += channels
    return np.concatenate(numbered)


def _dtype(site: GateSite) -> np.dtype[np.generic]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(site.element_type))
