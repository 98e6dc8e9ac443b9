"""The model under attack: logits, losses and gradients of the shipped graph, batch by batch.

Two sessions are kept apart on purpose. The *forward* session runs the shipped graph as it is and
is what every verdict is taken from; the *gradient* session runs the differentiated working copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.attacks import passes
from cloakify.attacks.lanes import Iteration
from cloakify.attacks.passes import Batch, Evaluation, Step
from cloakify.attacks.target_sessions import Followed, TargetSessions
from cloakify.attacks.threat import ThreatModel
from cloakify.errors import about
from cloakify.graph.analysis.answer import Answer, agreeing, answers_of
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.attack_steps.build import (
    FEATURES,
    GRADIENT,
    LABELS,
    LOGITS,
    LOSS,
    TARGETS,
    GradientSpec,
)
from cloakify.graph.attack_steps.hidden_slopes import HIDDEN, build_hidden_slopes
from cloakify.graph.attack_steps.steps import CLEAN, EPS, FACTOR, LOWER, NEXT, STEP_SIZE, UPPER
from cloakify.numeric.arrays import Array, Labels, filled, floats
from cloakify.numeric.judging import is_right, predicted, rivals_of
from cloakify.runtime import DEFAULT_BATCH_SIZE, BatchSize, Device, Session, Workers

Result = TypeVar("Result")

# Full batches that callers should hand over at once, so that as many cores have work. A number that
# depended on the machine would make sums over batches depend on it too.
AT_ONCE = 8


class Target:
    """A classifier to attack.

    Parameters
    ----------
    model
        The model with its weights in it.
    spec, scores
        Its input, and what it is judged by: a value of ``model``.
    device
        Where its sessions run.
    batch_size
        How many samples a session takes at once; the last batch is filled up and cut off again,
        so results do not depend on how many samples are asked for. A model with a batch size of
        its own keeps that. On the CPU each core has a batch under way. Where memory does not
        suffice, batches are halved from there on.
    threads
        How many cores to use on the CPU; all when left out.
    constants
        Values of the model's other inputs, the same for every sample. They may be exchanged
        between calls for others of the same shapes.
    name
        What errors call it: the path of its file.
    followed
        Whose gradients are followed; the model's own when left out.
    """

    def __init__(
        self,
        model: ModelProto,
        spec: InputSpec,
        scores: Scores,
        device: Device,
        batch_size: int | BatchSize = DEFAULT_BATCH_SIZE,
        threads: int = 0,
        constants: Mapping[str, NDArray[np.generic]] | None = None,
        name: str | os.PathLike[str] = "",
        followed: Followed | None = None,
    ) -> None:
        self.model = model
        self.spec = spec
        self.scores = scores
        self.device = device
        self._batching = BatchSize(batch_size) if isinstance(batch_size, int) else batch_size
        self._threads = threads
        self.workers = Workers(device, threads)
        self.constants = dict(constants or {})
        self.name = name
        self.sessions = TargetSessions(model, device, self.workers.threads, name)
        self._batching.let_go_by(self.sessions)
        self._others = followed
        # What all gradients are of.
        self.differentiated = GradientSpec(
            spec.name, scores.logits, independent=scores.task is Task.MULTILABEL
        )

    def of(self, model: ModelProto, scores: Scores) -> Target:
        """Return another model that takes the same samples as a target, run as this one is."""
        run = (self.device, self._batching, self._threads, self.constants, self.name)
        return Target(model, self.spec, scores, *run)

    def let_go(self) -> None:
        """Close all sessions, for their memory; what is needed again is opened again."""
        self._followed.sessions.let_go()
        self.sessions.let_go()

    @property
    def batch_size(self) -> int:
        """How many samples a session takes at once."""
        return self.spec.batch_size or self._batching.now

    def within_memory(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns, which runs this target, in batches that fit into memory.

        Raises
        ------
        OutOfMemoryError
            Not even a single sample fits.
        """
        own = self.spec.batch_size
        return self._batching.within_memory(work, 1 if own is None else self._batching.now)

    @property
    def num_classes(self) -> int:
        """C, or how many labels there are."""
        return self.scores.num_classes

    @property
    def independent(self) -> bool:
        """Whether samples have K labels each, int64 [n, K] of 0 and 1, in place of a class."""
        return self.scores.task is Task.MULTILABEL

    @property
    def num_choices(self) -> int:
        """How many logits losses choose among: C, or K + 1 for K labels."""
        return 1 + rivals_of(self.num_classes, independent=self.independent)

    @property
    def span(self) -> int:
        """How many samples should be handed over at once."""
        return self.batch_size * AT_ONCE

    def logits(self, x: Array, *, exact: bool = True) -> Array:
        """Return the shipped graph's logits [n, C] of samples [n, …]; for exact see `Session`."""
        return self._forward(x, [self.scores.logits], exact)[0].reshape(len(x), -1)

    def features_and_logits(self, x: Array) -> tuple[Array, Array]:
        """Return the shipped graph's features [n, …] and logits [n, C]."""
        features, logits = self._forward(x, [self.scores.features, self.scores.logits])
        return features, logits.reshape(len(x), -1)

    def values(self, x: Array, name: str) -> Array:
        """Return what the shipped graph's value of that name holds for samples, [n, …]."""
        return self._forward(x, [name])[0]

    def logits_and_overruled(self, x: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the shipped graph's logits [n, C], and where the whole model answers otherwise.

        That is where one of its outputs has a larger number for another class than the logits'
        largest, or is the index of another: bool [n].
        """
        logits, said = self._logits_and_answers(x)
        labels = predicted(logits, independent=self.independent)
        return logits, ~agreeing(self._answers, said, labels)

    def correct(self, x: Array, y: Labels) -> NDArray[np.bool_]:
        """Tell for each sample whether the shipped graph answers with the label.

        Its largest logit must be the label's, and whatever it makes of the logits must say so too.
        Of several labels all must be right. Logits that are no numbers are no answer.
        """
        logits, said = self._logits_and_answers(x)
        return is_right(logits, y) & agreeing(self._answers, said, y)

    def hidden_slopes(self, x: Array) -> float:
        """Return how much of what the model does on samples its derivatives do not tell.

        The share of the numbers at which a function in the graph, of one number each, is level
        although it is not on either side: the largest share of any such function, up to 1. See
        :func:`~cloakify.graph.gradient.secant.hidden_share`.

        Parameters
        ----------
        x
            A few samples [n, …]: as many as one batch holds are looked at.
        """
        size = self._size_for(len(x))

        def work() -> float:
            shapes = self._shapes(size, x.shape[1:])
            built = build_hidden_slopes(self.model, shapes, self.spec.name, self.scores.logits)
            if built is None:
                return 0.0
            session = Session(built, self.device, threads=self.workers.threads)
            fed = {self.spec.name: filled(x[:size], size), **self.constants}
            return float(session.run(self._feeds(session, fed), [HIDDEN])[HIDDEN].max())

        return self.within_memory(work)

    def _logits_and_answers(self, x: Array) -> tuple[Array, list[Array]]:
        names = [self.scores.logits, *(answer.name for answer in self._answers)]
        logits, *said = (outputs.reshape(len(x), -1) for outputs in self._forward(x, names))
        return logits, said

    def evaluate(
        self,
        x: Array,
        y: Labels,
        loss: str = "ce",
        targets: Labels | None = None,
        *,
        straight_through: bool = False,
    ) -> Evaluation:
        """Return logits, loss and input gradient of n samples.

        Parameters
        ----------
        x, y
            Samples [n, …] and labels [n], or [n, K].
        loss
            A key of :data:`~cloakify.graph.attack_steps.losses.LOSSES`.
        targets
            Target classes [n], or labels, for a targeted loss.
        straight_through
            See :class:`~cloakify.graph.attack_steps.build.GradientSpec`.

        Raises
        ------
        UnsupportedOperatorError
            The graph has no gradient.
        """
        spec = replace(self.differentiated, loss=loss, straight_through=straight_through)
        names = [LOGITS, LOSS, GRADIENT]
        return Evaluation(
            *self._run(x, {LABELS: y, TARGETS: targets}, spec, self._followed.constants, names)
        )

    def step(
        self, x: Array, y: Labels, clean: Array, threat: ThreatModel, step_size: float
    ) -> Step:
        """Take one step of projected gradient ascent on the cross-entropy.

        Parameters
        ----------
        x, clean
            Iterates and clean samples, [n, …].
        step_size
            In data units.
        """
        features = self.scores.features
        spec = replace(self.differentiated, features=features, step="step", norm=threat.norm)
        constants = self._bounds(threat) | {STEP_SIZE: np.array(step_size, np.float32)}
        wanted = [LOGITS, FEATURES, NEXT]
        return Step(*self._run(x, {LABELS: y, CLEAN: clean}, spec, constants, wanted))

    def iteration(
        self,
        sample_shape: tuple[int, ...],
        step: str,
        loss: str,
        threat: ThreatModel,
        *,
        straight_through: bool = False,
    ) -> Iteration:
        """Return what runs an iterated attack on samples of that shape.

        Parameters
        ----------
        sample_shape
            Without the batch axis.
        step, loss, straight_through
            See :class:`~cloakify.graph.attack_steps.build.GradientSpec`.
        threat
            Ball and box.
        """
        spec = replace(
            self.differentiated,
            loss=loss,
            step=step,
            norm=threat.norm,
            straight_through=straight_through,
        )
        return Iteration(
            passes.lane_sizes(self.batch_size, fixed=self.spec.batch_size is not None),
            lambda size: self._followed.sessions.gradient(self._shapes(size, sample_shape), spec),
            self.spec.name,
            self._bounds(threat),
            self.workers,
            # Fetching results is a copy within memory on the CPU, and one over the bus elsewhere.
            0.0 if self.device.kind == "cpu" else 1 / 8,
        )

    @property
    def _followed(self) -> Followed:
        return self._others or Followed(self.sessions, self.constants)

    def _bounds(self, threat: ThreatModel) -> dict[str, NDArray[np.generic]]:
        bounds = {FACTOR: threat.factor, LOWER: threat.lower, UPPER: threat.upper}
        return {EPS: np.array(threat.eps, np.float32), **bounds, **self._followed.constants}

    def _shapes(self, size: int, sample_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shape of the samples' input, by its name."""
        return {self.spec.name: (size, *sample_shape)}

    def _size_for(self, samples: int) -> int:
        """Return the batch size for a gradient of some samples."""
        sizes = passes.part_sizes(self.batch_size, fixed=self.spec.batch_size is not None)
        return next((size for size in sizes if size >= samples), self.batch_size)

    def _forward(self, x: Array, names: Sequence[str], exact: bool = True) -> list[Array]:
        def run(session: Session, batch: Batch) -> list[Array]:
            part, feeds = batch
            fed = {self.spec.name: feeds[self.spec.name].astype(self.spec.dtype, copy=False)}
            # Without a head the scores are their own features.
            outputs = session.run(fed | self.constants, list(dict.fromkeys(names)))
            size = len(fed[self.spec.name])
            passes.check_scores(outputs, self.scores.logits, size, self.num_classes)
            return [passes.of_samples(floats(outputs[name]), name, size, part) for name in names]

        def cut() -> Iterator[Batch]:
            return passes.batches({self.spec.name: x}, self.batch_size, self._forward_size)

        return self._joined(run, lambda: self._forward_session(names, exact), cut)

    def _run(
        self,
        x: Array,
        others: Mapping[str, Array | Labels | None],
        spec: GradientSpec,
        constants: Mapping[str, NDArray[np.generic]],
        names: Sequence[str],
    ) -> list[Array]:
        """Run a gradient graph on samples; return its outputs of those names."""
        given = {name: array for name, array in others.items() if array is not None}
        arrays: dict[str, NDArray[np.generic]] = {self.spec.name: x, **given}

        def opened() -> Session:
            shapes = self._shapes(self._size_for(len(x)), x.shape[1:])
            return self._followed.sessions.gradient(shapes, spec)

        def run(session: Session, batch: Batch) -> list[Array]:
            part, feeds = batch
            outputs = session.run(self._feeds(session, {**feeds, **constants}))
            size = len(feeds[self.spec.name])
            return [passes.of_samples(floats(outputs[name]), name, size, part) for name in names]

        return self._joined(run, opened, lambda: passes.batches(arrays, self._size_for(len(x))))

    def _joined(
        self,
        run: Callable[[Session, Batch], list[Array]],
        opened: Callable[[], Session],
        cut: Callable[[], Iterable[Batch]],
    ) -> list[Array]:
        """Run a session on the batches that are cut side by side and join what that returns."""

        def work() -> list[list[Array]]:
            session = opened()
            return self.workers.map(lambda batch: run(session, batch), cut())

        with about(self.name):
            outputs = self.within_memory(work)
        return [np.concatenate(arrays) for arrays in zip(*outputs, strict=True)]

    def _forward_session(self, names: Sequence[str], exact: bool = True) -> Session:
        """Return a session of the shipped graph with those outputs, among others."""
        answers = (answer.name for answer in self._answers)
        usual = (self.scores.features, self.scores.logits, *answers)
        wanted = usual if set(names) <= set(usual) else names
        return self.sessions.forward(wanted, exact=exact)

    @cached_property
    def _answers(self) -> tuple[Answer, ...]:
        return answers_of(self.model, self.scores)

    def _feeds(
        self, session: Session, feeds: dict[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Keep only what a gradient session takes, in its types."""
        return {name: session.as_taken(name, feeds[name]) for name in session.inputs}

    def _forward_size(self, samples: int) -> int:
        """Return the batch size for a forward pass, which takes any unless the model is fixed."""
        return self.spec.batch_size or passes.forward_size(samples, self.batch_size, self.device)
