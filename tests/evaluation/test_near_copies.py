"""Near copies, against a search among all pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.attacks import ThreatModel, make_threat
from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.evaluation.near_copies import (
    BATCH,
    FEWEST_NUMBERS,
    PROJECTIONS,
    meet,
    near_copies,
    sketch,
)
from cloakify.graph.analysis.inputs import InputSpec

EPS = {"linf": 4 / 255, "l2": 0.2}
PLAIN = Preprocessing()
IMAGENET = Preprocessing.parse("1", "0.485,0.456,0.406", "0.229,0.224,0.225")


@dataclass
class Here:
    """Reads samples itself."""

    data: Dataset
    threat: ThreatModel

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.data.sample_shape

    def sketches(self, samples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in self.data.batches(samples, BATCH):
            yield batch.index, sketch(batch.x, self.threat)

    def meetings(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return meet(self.data.batch(first).x, self.data.batch(second).x, self.threat)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    norm=st.sampled_from(sorted(EPS)),
    preprocessing=st.sampled_from([PLAIN, IMAGENET]),
    share=st.floats(0, 1),
    size=st.floats(0.2, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_against_all_pairs(
    tmp_path: Path, norm: str, preprocessing: Preprocessing, share: float, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random((60, 3, 8, 8), np.float32)
    copied = np.flatnonzero(rng.random(30) < share)
    noise = rng.uniform(-1, 1, (len(copied), 3, 8, 8))
    if norm == "l2":
        noise /= np.sqrt(np.square(noise).sum(axis=(1, 2, 3), keepdims=True))
    originals = rng.integers(30, 60, len(copied))
    pixels[copied] = np.clip(pixels[originals] + size * EPS[norm] * noise, 0, 1)
    np.savez(tmp_path / "d.npz", x=preprocessing.to_model(pixels, 1), y=np.zeros(60, np.int64))
    spec = InputSpec("x", (None, 3, 8, 8), np.dtype(np.float32), 1)
    data = open_data(tmp_path / "d.npz", spec, preprocessing)
    threat = make_threat(norm, EPS[norm], spec, preprocessing)
    found = near_copies(Here(data, threat), np.arange(30), np.arange(30, 60))
    apart = (pixels[:30, None] - pixels[None, 30:]).reshape(30, 30, -1)
    order = np.inf if norm == "linf" else 2
    distance = np.linalg.norm(apart, ord=order, axis=2).min(axis=1)
    # Rounding may go either way.
    clear = np.abs(distance - 2 * EPS[norm]) > 1e-4
    np.testing.assert_array_equal(found[clear], (distance <= 2 * EPS[norm])[clear])


def test_progress_tells_how_many_were_looked_at(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((300, 1, 6, 6), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(300, np.int64))
    spec = InputSpec("x", (None, 1, 6, 6), np.dtype(np.float32), 1)
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    threat = make_threat("linf", 0.01, spec, PLAIN)
    told: list[int] = []
    near_copies(Here(data, threat), np.arange(5), np.arange(5, 300), told.append)
    assert told[-1] == 295 and told == sorted(told)
    with pytest.raises(IndexError):
        near_copies(Here(data, threat), np.array([300]), np.arange(5))


def test_samples_of_a_few_numbers_are_no_copies(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((20, 8), np.float32) / 2, y=np.zeros(20, np.int64))
    spec = InputSpec("x", (None, 8), np.dtype(np.float32), None)
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    threat = make_threat("linf", 0.01, spec, PLAIN)
    assert not near_copies(Here(data, threat), np.arange(5), np.arange(5, 20)).any()


@dataclass
class Sketched:
    """Samples of which nothing but sketches is known; all pairs meet, and are noted."""

    rows: np.ndarray
    numbers: int = FEWEST_NUMBERS
    at_once: int = 5

    def __post_init__(self) -> None:
        self.met: list[tuple[int, int]] = []

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.numbers,)

    def sketches(self, samples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(samples), self.at_once):
            part = samples[start : start + self.at_once]
            yield part, self.rows[part]

    def meetings(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        self.met += list(zip(first.tolist(), second.tolist(), strict=True))
        return np.ones(len(first), np.bool_)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_the_nearest_is_looked_at_and_must_be_far_nearer_than_the_mean(
    seed: int, mine: int, others: int
) -> None:
    """By distances in loops: a tenth of the root of the mean square to all."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((mine + others, PROJECTIONS)).astype(np.float32)
    copied = rng.random(mine) < 0.6
    away = rng.choice([0.02, 0.08, 0.12, 0.3], (mine, 1)) * rng.standard_normal((mine, PROJECTIONS))
    rows[:mine][copied] = (rows[mine + rng.integers(0, others, mine)] + away)[copied]
    order = rng.permutation(mine + others)
    looks = Sketched(rows)
    samples, further = order[order < mine], order[order >= mine]
    found = near_copies(looks, samples, further)
    for flag, (sample, nearest) in zip(found, looks.met, strict=True):
        squares = np.square(rows[further].astype(np.float64) - rows[sample]).sum(axis=1)
        least = squares.min()
        # Which of two that are as far is as good as the other.
        near = np.square(rows[nearest].astype(np.float64) - rows[sample]).sum()
        assert near == pytest.approx(least, abs=1e-4)
        bound = squares.mean() / 100
        assert flag == (least <= bound) or least == pytest.approx(bound, abs=1e-4)
    assert [sample for sample, _ in looks.met] == samples.tolist()


@pytest.mark.parametrize("numbers", [FEWEST_NUMBERS - 1, FEWEST_NUMBERS])
def test_from_so_many_numbers_on_samples_may_be_copies(numbers: int) -> None:
    rows = np.repeat(np.random.default_rng(0).standard_normal((4, PROJECTIONS)), 2, axis=0)
    looks = Sketched(rows.astype(np.float32), numbers)
    found = near_copies(looks, np.arange(0, 8, 2), np.arange(1, 8, 2))
    assert found.tolist() == [numbers == FEWEST_NUMBERS] * 4


def test_a_sketch_keeps_squares_of_lengths_on_the_mean() -> None:
    """Of differences in data units, times the number of projections (Johnson, Lindenstrauss)."""
    rng = np.random.default_rng(0)
    factor = np.array([0.5, 2, 8], np.float32).reshape(1, 3, 1, 1)
    threat = ThreatModel("linf", 0.1, factor, -factor, factor)
    x = (rng.standard_normal((400, 3, 4, 4)) * factor).astype(np.float32)
    drawn = sketch(x, threat)
    assert drawn.shape == (400, PROJECTIONS)
    lengths = np.square(x / factor).sum(axis=(1, 2, 3))
    assert np.square(drawn).sum(axis=1).mean() == pytest.approx(
        PROJECTIONS * lengths.mean(), rel=0.1
    )
    np.testing.assert_allclose(sketch(2 * x, threat), 2 * drawn, rtol=1e-4, atol=1e-4)


@given(st.sampled_from(["linf", "l2"]), st.integers(1, 254), st.integers(0, 2**32 - 1))
def test_pairs_meet_up_to_twice_the_budget(norm: str, levels: int, seed: int) -> None:
    """A whole number of levels apart they do, however that is rounded; one more is too far."""
    rng = np.random.default_rng(seed)
    factor = np.array([0.3, 5], np.float32).reshape(1, 2, 1)
    eps = levels / 255 / 2
    threat = ThreatModel(norm, eps, factor, -factor, factor)  # type: ignore[arg-type]
    first = rng.integers(0, 255 - levels, (2, 2, 6)) if levels < 254 else np.zeros((2, 2, 6))
    apart = np.zeros((2, 2, 6))
    apart[:, 1, 3] = levels, levels + 1
    one, other = ((part / 255 * factor).astype(np.float32) for part in (first, first + apart))
    assert meet(one, other, threat).tolist() == [True, False]
