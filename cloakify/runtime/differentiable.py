"""A classifier with a forward and a backward pass that are called one after the other.

Gradient sessions are fixed to a batch size, callers are not: batches are cut up, for all cores to
have their part, and what is left over is filled up to the next power of two.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
from onnx import ModelProto

from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.attack_steps.build import (
    GRADIENT,
    LOGITS,
    LOGITS_GRADIENT,
    GradientSpec,
    build_gradient,
)
from cloakify.graph.attack_steps.forward_backward import cut_in_halves
from cloakify.graph.edit.taps import tap
from cloakify.numeric.arrays import AnyArray, filled
from cloakify.printable import shape_text
from cloakify.runtime.batch_size import fitting_batch_size
from cloakify.runtime.devices import Device
from cloakify.runtime.session import Session, Value
from cloakify.runtime.workers import Workers

# A call needs at most two sizes at once; attacks that drop the samples they have fooled come back
# to earlier ones. Every size holds the weights anew, so they are not all kept.
SIZES_KEPT = 3


@dataclass(frozen=True)
class _Pair:
    """The sessions of one batch size."""

    size: int
    forward: Session
    backward: Session
    kept: tuple[str, ...]


@dataclass(frozen=True)
class _Stretch:
    """What the forward pass of up to a batch leaves for the backward pass."""

    pair: _Pair
    samples: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Tape:
    """What a forward pass leaves for its backward passes."""

    sample_shape: tuple[int, ...]
    stretches: tuple[_Stretch, ...]


class DifferentiableModel:
    """Logits of the shipped graph, and logits with the way back to the input.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    spec, scores
        Its input, of a floating type, and its logits: a value of ``model``.
    device
        Where its sessions run.
    batch_size
        At most this many samples go into one run; what suits their size when left out. A model with
        a batch size of its own keeps that.
    threads
        How many cores to use on the CPU; all when left out.
    """

    def __init__(
        self,
        model: ModelProto,
        spec: InputSpec,
        scores: Scores,
        device: Device,
        *,
        batch_size: int | None = None,
        threads: int = 0,
    ) -> None:
        self.model = model
        self.spec = spec
        self.scores = scores
        self.device = device
        self.batch_size = spec.batch_size or batch_size
        self._threads = threads
        self.workers = Workers(device, threads)
        self._pairs: OrderedDict[tuple[int, ...], _Pair] = OrderedDict()
        self._shipped: dict[int, Session] = {}
        # Callers may have threads of their own.
        self._opening = Lock()

    def __reduce__(self) -> tuple[object, ...]:
        """Copies, pickled ones too, open sessions of their own."""
        facts = (self.model, self.spec, self.scores, self.device, self.batch_size, self._threads)
        return _reopened, facts

    def logits(self, x: AnyArray) -> AnyArray:
        """Return the shipped graph's logits [n, C] of samples [n, …]."""
        self._check(x)
        parts, threads = self._parts(x.astype(self.spec.dtype, copy=False))
        name = self.scores.logits
        with self._opening:
            if threads not in self._shipped:
                model = tap(self.model, [name])
                self._shipped[threads] = self._session(model, threads, forward=True)
            session = self._shipped[threads]

        def run(part: AnyArray) -> AnyArray:
            batch = part if self.spec.batch_size is None else filled(part, self.spec.batch_size)
            scores = session.run({self.spec.name: batch}, [name])[name]
            return scores.reshape(len(batch), -1)[: len(part)].astype(self.spec.gradient_dtype)

        return self._joined((self.scores.num_classes,), self.workers.map(run, parts))

    def forward(self, x: AnyArray) -> tuple[AnyArray, Tape]:
        """Return the working copy's logits [n, C], and what :meth:`backward` needs.

        Raises
        ------
        UnsupportedOperatorError
            The graph has no gradient.
        """
        self._check(x)
        parts, threads = self._parts(x.astype(self.spec.gradient_dtype, copy=False))
        with self._opening:
            pairs = [self._pair(len(part), x.shape[1:], threads) for part in parts]

        def run(chosen: tuple[AnyArray, _Pair]) -> tuple[AnyArray, _Stretch]:
            part, pair = chosen
            batch = filled(part, pair.size)
            values = pair.forward.run_on_device({self.spec.name: batch})
            kept: dict[str, Value] = {name: values[name] for name in pair.kept}
            if self.spec.name in pair.backward.inputs:
                # The caller may overwrite its samples before the way back.
                kept[self.spec.name] = batch.copy() if batch is part else batch
            logits = values[LOGITS].numpy()[: len(part)]
            return logits, _Stretch(pair, len(part), kept)

        runs = self.workers.map(run, zip(parts, pairs, strict=True))
        logits = self._joined((self.scores.num_classes,), [part for part, _ in runs])
        return logits, Tape(x.shape[1:], tuple(stretch for _, stretch in runs))

    def backward(self, tape: Tape, logits_gradient: AnyArray) -> AnyArray:
        """Return ∂loss/∂x [n, …] from ∂loss/∂logits [n, C]; a tape may be used many times."""
        ends = np.cumsum([stretch.samples for stretch in tape.stretches])

        def run(chosen: tuple[_Stretch, int]) -> AnyArray:
            stretch, end = chosen
            pair, samples = stretch.pair, stretch.samples
            seed = np.zeros((pair.size, self.scores.num_classes), self.spec.gradient_dtype)
            seed[:samples] = logits_gradient[end - samples : end]
            fed = {LOGITS_GRADIENT: pair.backward.as_taken(LOGITS_GRADIENT, seed)}
            return pair.backward.run(stretch.values | fed)[GRADIENT][:samples]

        gradients = self.workers.map(run, zip(tape.stretches, ends.tolist(), strict=True))
        return self._joined(tape.sample_shape, gradients)

    def _pair(self, samples: int, sample_shape: tuple[int, ...], threads: int) -> _Pair:
        size = self.spec.batch_size or min(self._limit(sample_shape), _power_of_two(samples))
        shape = (size, *sample_shape)
        key = (threads, *shape)
        if key not in self._pairs:
            spec = GradientSpec(self.spec.name, self.scores.logits, None, loss=None)
            halves = cut_in_halves(build_gradient(self.model, {self.spec.name: shape}, spec))
            forward = self._session(halves.forward, threads)
            backward = self._session(halves.backward, threads)
            self._pairs[key] = _Pair(size, forward, backward, halves.kept)
            if len(self._pairs) > SIZES_KEPT:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(key)
        return self._pairs[key]

    def _session(self, model: ModelProto, threads: int, *, forward: bool = False) -> Session:
        return Session(model, self.device, threads=threads, forward=forward)

    def _limit(self, sample_shape: tuple[int, ...]) -> int:
        """Return how many samples of a shape go into one run at most."""
        return self.batch_size or fitting_batch_size(sample_shape, self.device)

    def _parts(self, x: AnyArray) -> tuple[list[AnyArray], int]:
        """Cut samples into batches; return these, and how many threads each should be run with.

        Too few samples to give half of the cores one are run together, by all cores.
        """
        workers, size = self.workers, self._limit(x.shape[1:])
        together = workers.count > 1 and 2 * len(x) <= workers.count
        if not together and self.spec.batch_size is None:
            size = min(size, _power_of_two(-(-len(x) // workers.count)))
        parts = [x[start : start + size] for start in range(0, len(x), size)]
        return parts, workers.count if together else workers.threads

    def _joined(self, shape: tuple[int, ...], parts: list[AnyArray]) -> AnyArray:
        """Join arrays [n, …] of that shape, of which there may be none."""
        return np.concatenate([np.empty((0, *shape), self.spec.gradient_dtype), *parts])

    def _check(self, x: AnyArray) -> None:
        wanted = self.spec.sample_shape
        if x.ndim != len(wanted) + 1 or any(
            size is not None and size != given
            for size, given in zip(wanted, x.shape[1:], strict=True)
        ):
            raise DataError(
                f"the model takes {shape_text(('N', *wanted))}, not {shape_text(x.shape)}"
            )


def _power_of_two(samples: int) -> int:
    """Return the smallest power of two that is at least ``samples``, and 1."""
    return 1 << (max(samples, 1) - 1).bit_length()


def _reopened(
    model: ModelProto,
    spec: InputSpec,
    scores: Scores,
    device: Device,
    batch_size: int | None,
    threads: int,
) -> DifferentiableModel:
    return DifferentiableModel(model, spec, scores, device, batch_size=batch_size, threads=threads)
