"""What is written down of a tuning run is read as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.masking.tuning_file import load_state, save_state
from cloakify.masking.tuning_state import Checkpoint, GateMetrics, TuningState
from cloakify.numeric.adam import Adam

COUNTS = st.integers(0, 10**6)
SHARES = st.floats(0, 100)
METRICS = st.builds(GateMetrics, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, SHARES, SHARES)


@st.composite
def states(draw: st.DrawFn) -> TuningState:
    folds, count = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    adams = [Adam(*rng.standard_normal((3, count)), draw(COUNTS)) for _ in range(folds)]
    tried = draw(st.lists(st.tuples(COUNTS, METRICS), min_size=1, max_size=4))
    points = [Checkpoint(step, rng.standard_normal((folds, count)), m) for step, m in tried]
    return TuningState(draw(COUNTS), tuple(adams), draw(COUNTS), draw(SHARES), tuple(points))


@settings(max_examples=30)
@given(states(), st.text("abc é/·", min_size=1, max_size=9))
def test_a_state_is_read_as_it_was(state: TuningState, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        save_state(state, path, name)
        read = load_state(path, name)
    numbers = ("step", "attack_steps", "clean_weight")
    assert [getattr(read, n) for n in numbers] == [getattr(state, n) for n in numbers]
    for one, other in zip(read.adams, state.adams, strict=True):
        assert one.count == other.count
        for n in ("theta", "mean", "square"):
            assert getattr(one, n).tobytes() == getattr(other, n).tobytes()
    for one, other in zip(read.checkpoints, state.checkpoints, strict=True):
        assert (one.step, one.metrics) == (other.step, other.metrics)
        assert one.theta.tobytes() == other.theta.tobytes() and one.theta.shape == other.theta.shape
