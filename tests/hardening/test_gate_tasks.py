"""A step of tuning comes to the same however its shards are dealt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.masking.course import Course, Draw
from cloakify.masking.lesson import Lesson
from cloakify.masking.tuning_plan import TuningPlan
from tests.hardening.gates import Gates, Wide

COUNT = 22


def lesson_of(draw: Draw, count: int) -> Lesson:
    generator = np.random.default_rng(1)
    return Lesson(
        draw=draw,
        is_clean=np.arange(len(draw)) < 7,
        weight=generator.dirichlet(np.ones(len(draw))),
        gates=generator.uniform(0.5, 1.5, count),
        eps=0.05,
        attack_steps=2,
        number=4,
    )


@pytest.mark.parametrize("mixtures", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_the_same_bytes_of_any_width(tmp_path: Path, batch_size: int, mixtures: int) -> None:
    gates = Gates(tmp_path, batch_size=batch_size)
    plan = TuningPlan(steps=3, max_accuracy_drop=0.01, batch_size=COUNT, mixtures=mixtures)
    # Of so few samples some are in a step twice.
    course = Course([np.arange(15)], plan)
    count = sum(site.channels for site in gates.sites)
    lesson, found = lesson_of(course.draw(0), count), []
    for width in (1, 2, 3, 50):
        engine = Wide(gates.subject, width)
        learned = gates.work(engine, plan).learn(lesson, course.draw(1))
        found.append(tuple(vars(learned)[name].tobytes() for name in ("loss", "right", "gradient")))
        (jobs,) = engine.begun
        shards = -(-COUNT // batch_size)
        assert len(jobs) == min(width, shards) and len(learned.loss) == shards
        read = np.concatenate([chunk for job in jobs for chunk in job.chunks])
        assert sorted(read) == sorted(lesson.draw.samples)
        coming = np.concatenate([job.upcoming for job in jobs if job.upcoming is not None])
        assert sorted(coming) == sorted(course.draw(1).samples)
    assert len(set(found)) == 1


@pytest.mark.parametrize("mixtures", [0, 2])
def test_answers_that_are_remembered_are_those_that_are_asked(
    tmp_path: Path, mixtures: int
) -> None:
    gates = Gates(tmp_path, batch_size=4)
    plan = TuningPlan(steps=3, max_accuracy_drop=0.01, batch_size=COUNT, mixtures=mixtures)
    course = Course([np.arange(3, 20)], plan)
    lesson = lesson_of(course.draw(0), sum(site.channels for site in gates.sites))
    asking, knowing = gates.work(plan=plan), gates.work(plan=plan)
    knowing.remember(course)
    asked, known = asking.learn(lesson, None), knowing.learn(lesson, None)
    np.testing.assert_allclose(known.loss, asked.loss, rtol=1e-5)
    np.testing.assert_allclose(known.gradient, asked.gradient, rtol=1e-4, atol=1e-6)
    # Of others than it is asked for.
    wrong = gates.work(plan=plan)
    wrong.remember(Course([np.arange(20, 37)], plan))
    wrong._known = np.arange(3, 20)
    assert not np.allclose(wrong.learn(lesson, None).loss, asked.loss, rtol=1e-2)


@pytest.mark.parametrize(("mixtures", "samples"), [(4, 17), (0, 3 * COUNT)])
def test_what_is_not_seen_again_is_not_remembered(
    tmp_path: Path, mixtures: int, samples: int
) -> None:
    gates = Gates(tmp_path, batch_size=4)
    engine = Wide(gates.subject, 1)
    plan = TuningPlan(steps=3, max_accuracy_drop=0.01, batch_size=COUNT, mixtures=mixtures)
    gates.work(engine, plan).remember(Course([np.arange(samples)], plan))
    assert not engine.begun


def test_what_shards_learn_adds_up_to_the_gradient_of_all(tmp_path: Path) -> None:
    """Against differences of the loss, on samples that nobody attacks."""
    gates = Gates(tmp_path, batch_size=4)
    plan = TuningPlan(steps=3, max_accuracy_drop=0.01, batch_size=COUNT)
    count = sum(site.channels for site in gates.sites)
    draw = Course([np.arange(40)], plan).draw(0)
    one = lesson_of(draw, count)
    lesson = Lesson(**{**vars(one), "is_clean": np.ones(COUNT, np.bool_)})
    work = gates.work(plan=plan)
    learned = work.learn(lesson, None)

    def loss(values: np.ndarray) -> float:
        moved = Lesson(**{**vars(lesson), "gates": values})
        return float(work.learn(moved, None).loss.sum())

    assert not learned.right.any()
    for place in range(count):
        step = np.where(np.arange(count) == place, 1e-2, 0.0)
        slope = (loss(lesson.gates + step) - loss(lesson.gates - step)) / 2e-2
        assert learned.gradient.sum(axis=0)[place] == pytest.approx(slope, rel=2e-2, abs=2e-4)
