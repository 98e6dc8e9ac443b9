"""A classifier with a forward and a backward pass that are called one after the other.

Gradient sessions are fixed to a batch size, callers are not: batches are cut up, and what is left
over is filled up to the next power of two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import DataError
from cloakify.graph.gradient.build import (
    GRADIENT,
    LOGITS,
    LOGITS_GRADIENT,
    GradientSpec,
    build_gradient,
)
from cloakify.graph.gradient.halves import cut_in_halves
from cloakify.graph.head import Head
from cloakify.graph.inputs import InputSpec
from cloakify.graph.taps import tap
from cloakify.runtime.devices import Device
from cloakify.runtime.session import Session, Value

# A call needs at most two sizes at once; attacks that drop the samples they have fooled come back
# to earlier ones. Every size holds the weights anew, so they are not all kept.
SIZES_KEPT = 3

Array = NDArray[np.generic]


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
    spec, head
        Its input, of a floating type, and its head.
    device
        Where its sessions run.
    batch_size
        At most this many samples are run at once. A model with a batch size of its own keeps that.
    threads
        See :class:`Session`.
    """

    def __init__(
        self,
        model: ModelProto,
        spec: InputSpec,
        head: Head,
        device: Device,
        *,
        batch_size: int = 64,
        threads: int = 0,
    ) -> None:
        self.model = model
        self.spec = spec
        self.head = head
        self.device = device
        self.batch_size = spec.batch_size or batch_size
        self.threads = threads
        self._pairs: OrderedDict[tuple[int, ...], _Pair] = OrderedDict()

    def logits(self, x: Array) -> Array:
        """Return the shipped graph's logits [n, C] of samples [n, …]."""
        self._check(x)
        name, session = self.head.logits, self._shipped
        found = [np.empty((0, self.head.num_classes), self._dtype)]
        for part in self._parts(x.astype(self.spec.dtype, copy=False)):
            batch = part if self.spec.batch_size is None else _filled(part, self.batch_size)
            scores = session.run({self.spec.name: batch}, [name])[name]
            found.append(scores.reshape(len(batch), -1)[: len(part)].astype(self._dtype))
        return np.concatenate(found)

    def forward(self, x: Array) -> tuple[Array, Tape]:
        """Return the working copy's logits [n, C], and what :meth:`backward` needs.

        Raises
        ------
        UnsupportedOperatorError
            The graph has no gradient.
        """
        self._check(x)
        found = [np.empty((0, self.head.num_classes), self._dtype)]
        stretches: list[_Stretch] = []
        for part in self._parts(x.astype(self._dtype, copy=False)):
            pair = self._pair(len(part), x.shape[1:])
            batch = _filled(part, pair.size)
            values = pair.forward.run_on_device({self.spec.name: batch})
            found.append(values[LOGITS].numpy()[: len(part)])
            kept: dict[str, Value] = {name: values[name] for name in pair.kept}
            if self.spec.name in pair.backward.inputs:
                # The caller may overwrite its samples before the way back.
                kept[self.spec.name] = batch.copy() if batch is part else batch
            stretches.append(_Stretch(pair, len(part), kept))
        return np.concatenate(found), Tape(x.shape[1:], tuple(stretches))

    def backward(self, tape: Tape, logits_gradient: Array) -> Array:
        """Return ∂loss/∂x [n, …] from ∂loss/∂logits [n, C]; a tape may be used many times."""
        found: list[Array] = [np.empty((0, *tape.sample_shape), self._dtype)]
        start = 0
        for stretch in tape.stretches:
            pair, samples = stretch.pair, stretch.samples
            seed = np.zeros((pair.size, self.head.num_classes), self._dtype)
            seed[:samples] = logits_gradient[start : start + samples]
            feeds = stretch.values | {LOGITS_GRADIENT: seed}
            found.append(pair.backward.run(feeds)[GRADIENT][:samples])
            start += samples
        return np.concatenate(found)

    @property
    def _dtype(self) -> np.dtype[np.generic]:
        """What gradients are computed in: 16-bit models are widened."""
        return np.dtype(np.float64 if self.spec.dtype == np.float64 else np.float32)

    @cached_property
    def _shipped(self) -> Session:
        return self._session(tap(self.model, [self.head.logits]))

    def _pair(self, samples: int, sample_shape: tuple[int, ...]) -> _Pair:
        size = self.batch_size
        if self.spec.batch_size is None:
            size = min(size, 1 << (samples - 1).bit_length())
        shape = (size, *sample_shape)
        if shape not in self._pairs:
            spec = GradientSpec(self.spec.name, self.head.logits, None, loss=None)
            halves = cut_in_halves(build_gradient(self.model, {self.spec.name: shape}, spec))
            sessions = self._session(halves.forward), self._session(halves.backward)
            self._pairs[shape] = _Pair(size, *sessions, halves.kept)
            if len(self._pairs) > SIZES_KEPT:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(shape)
        return self._pairs[shape]

    def _session(self, model: ModelProto) -> Session:
        return Session(model, self.device, threads=self.threads)

    def _parts(self, x: Array) -> Iterator[Array]:
        for start in range(0, len(x), self.batch_size):
            yield x[start : start + self.batch_size]

    def _check(self, x: Array) -> None:
        wanted = self.spec.sample_shape
        if x.ndim != len(wanted) + 1 or any(
            size is not None and size != found
            for size, found in zip(wanted, x.shape[1:], strict=True)
        ):
            raise DataError(f"the model takes {_text(('N', *wanted))}, not {_text(x.shape)}")


def _filled(part: Array, size: int) -> Array:
    """Repeat the last sample up to ``size``: any valid one will do."""
    missing = size - len(part)
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def _text(shape: tuple[int | str | None, ...]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape)
