"""What else a model withstands: the norm not asked for, and what happens without attackers.

A mask or gates answer one threat; what they do to others is told beside it, and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln

from cloakify.attacks import Attack, ThreatModel
from cloakify.data import Batch
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell
from cloakify.evaluation import accuracy_figure
from cloakify.evaluation.attack_models import withstands
from cloakify.evaluation.corruptions import CORRUPTIONS, corruptions_of
from cloakify.evaluation.samples import Samples
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.subject import Subject, Which, name_of
from cloakify.numeric.arrays import Array, floats, in_chunks
from cloakify.report.comparison import CorruptionAccuracy, OtherNormAccuracy, OtherThreats


@dataclass(frozen=True)
class TryOthers(Task[Subject]):
    """Attacks samples in the other norm, and corrupts them where they are images.

    Attributes
    ----------
    which
        The model.
    attack
        What attacks.
    eps
        The budget in the other norm.
    corruptions
        Names of :data:`~cloakify.evaluation.corruptions.CORRUPTIONS`.
    seed
        Of the noise.
    """

    which: Which
    attack: Attack
    eps: float
    corruptions: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return f"others-{name_of(self.which)}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`; whether each sample is answered rightly, by threat."""
        target, experiment = subject.target(self.which), subject.first
        samples = Samples.of(batch)
        x, y = samples.x, samples.y
        ball = other_ball(experiment.threat, self.eps)
        right = {"norm": withstands(self.attack, target, samples, ball, target.correct(x, y))}
        view = _View.of(experiment) if self.corruptions else None
        for name in self.corruptions:
            assert view is not None
            corrupt, strengths = CORRUPTIONS[name]
            for place, strength in enumerate(strengths):
                pixels = corrupt(view.pixels(x), strength, batch.index, self.seed)
                right[f"{name}-{place}"] = target.correct(view.inputs(pixels), y)
        return right


@dataclass(frozen=True)
class _View:
    """How inputs are seen as pixels [n, H, W, C] in [0, 1]."""

    channel_axis: int
    threat: ThreatModel

    @classmethod
    def of(cls, experiment: Experiment) -> _View | None:
        """Return it for images with a box of pixels; ``None`` for anything else."""
        axis, threat = experiment.spec.channel_axis, experiment.threat
        boxed = np.isfinite(threat.lower).all() and experiment.setting.data.box == (0.0, 1.0)
        plain = experiment.latent is None and axis is not None and experiment.spec.channels
        return cls(axis, threat) if plain and boxed and axis is not None else None

    def pixels(self, x: Array) -> Array:
        scaled = (x - self.threat.lower) / self.threat.factor
        return np.moveaxis(scaled, self.channel_axis, 3)

    def inputs(self, pixels: Array) -> Array:
        back = np.moveaxis(np.clip(pixels, 0, 1), 3, self.channel_axis)
        return floats(np.ascontiguousarray(back * self.threat.factor + self.threat.lower))


def other_ball(threat: ThreatModel, eps: float) -> ThreatModel:
    """Return the ball of the other norm with this budget."""
    return replace(threat, norm="l2" if threat.norm == "linf" else "linf", eps=eps)


def eps_of_equal_volume(threat: ThreatModel, dimensions: int) -> float:
    """Return the budget in the other norm of a ball of the same volume.

    In d dimensions that is (2 ε)^d of linf, and π^(d/2)/Γ(d/2 + 1)·ε^d of l2.
    """
    half = dimensions / 2
    ratio = 2 * math.exp(float(gammaln(half + 1)) / dimensions) / math.sqrt(math.pi)
    return threat.eps * ratio if threat.norm == "linf" else threat.eps / ratio


def trying_others(
    subject: Subject, models: Sequence[int], attack: Attack, seed: int
) -> list[Job[Subject]]:
    """Return the jobs of trying what was not asked for, for each model.

    Parameters
    ----------
    attack
        The first of those that were.
    seed
        Of the noise.
    """
    experiment = subject.first
    shape = experiment.dataset.sample_shape
    eps = eps_of_equal_volume(experiment.threat, experiment.threat.dimensions(shape))
    images = _View.of(experiment) is not None
    names = tuple(corruptions_of(experiment.spec.channels or 0)) if images else ()
    indices = np.arange(len(experiment.dataset))
    chunks = in_chunks(indices, subject.targets[0].span)
    return [Job(TryOthers(which, attack, eps, names, seed), chunks) for which in models]


def other_threats(
    subject: Subject, engine: Engine[Subject], job: Job[Subject], tell: Callable[[int], None]
) -> OtherThreats:
    """Do one of these jobs; return what the model withstands."""
    task = job.task
    assert isinstance(task, TryOthers)
    parts = list(engine.map(job, tell))
    figures = {
        name: accuracy_figure(np.concatenate([part[name] for part in parts])) for name in parts[0]
    }
    ball = other_ball(subject.first.threat, task.eps)
    return OtherThreats(
        OtherNormAccuracy(ball.norm, ball.eps, task.attack.name, figures["norm"]),
        tuple(
            CorruptionAccuracy(name, strength, figures[f"{name}-{place}"])
            for name in task.corruptions
            for place, strength in enumerate(CORRUPTIONS[name][1])
        ),
    )
