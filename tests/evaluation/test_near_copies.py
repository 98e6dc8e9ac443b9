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
from cloakify.evaluation.near_copies import BATCH, meet, near_copies, sketch
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
