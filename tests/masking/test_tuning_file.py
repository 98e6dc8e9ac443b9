"""What is written down of a tuning run is read as it was."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import DataError
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
        read = load_state(path, name, state.theta.shape)
    numbers = ("step", "attack_steps", "clean_weight")
    assert [getattr(read, n) for n in numbers] == [getattr(state, n) for n in numbers]
    for one, other in zip(read.adams, state.adams, strict=True):
        assert one.count == other.count
        for n in ("theta", "mean", "square"):
            assert getattr(one, n).tobytes() == getattr(other, n).tobytes()
    for one, other in zip(read.checkpoints, state.checkpoints, strict=True):
        assert (one.step, one.metrics) == (other.step, other.metrics)
        assert one.theta.tobytes() == other.theta.tobytes() and one.theta.shape == other.theta.shape


STATE = TuningState(
    3,
    (Adam.at(np.ones(5)),) * 2,
    checkpoints=(Checkpoint(0, np.zeros((2, 5)), GateMetrics(10, 20, 18, 3, 4, 0.1, 0.2)),),
)


@settings(max_examples=300, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 8))
def test_another_bit_is_refused_or_says_nothing(place: float, bit: int) -> None:
    """A ninth bit stands for the end of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        save_state(STATE, path, "run")
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        if bit == 8:
            content = content[:at]
        else:
            content[at] ^= 1 << bit
        path.write_bytes(content)
        try:
            read = load_state(path, "run", (2, 5))
        except DataError as error:
            assert "\n" not in str(error)
            return
    assert repr(read) == repr(STATE)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def claiming(*shape: int) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
    return file.getvalue()


MADE_UP = {
    "much": {"adams": claiming(10**12)},
    "more than there are numbers for": {"adams": claiming(10**20)},
    "no number": {"thetas": npy(np.full((1, 2, 5), np.nan))},
    "infinite metrics": {"metrics": npy(np.full((1, 7), np.inf))},
    "infinite steps": {"steps": npy(np.array([np.inf]))},
    "negative counts": {"counts": npy(np.array([-5, -3]))},
    "another shape": {"thetas": npy(np.zeros((1, 2, 7)))},
    "one of other gates": {
        "adams": npy(np.zeros((2, 3, 7))),
        "thetas": npy(np.zeros((1, 2, 7))),
    },
    "one of fewer folds": {
        "adams": npy(np.zeros((1, 3, 5))),
        "adam_counts": npy(np.zeros(1)),
        "thetas": npy(np.zeros((1, 1, 5))),
    },
    "packed zeros": {"more": npy(np.zeros(10**6))},
}


@pytest.mark.parametrize("what", MADE_UP)
def test_what_nobody_has_saved_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state"
    save_state(STATE, path, "run")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {f"{name}.npy": content for name, content in MADE_UP[what].items()}
    packing = zipfile.ZIP_DEFLATED if what == "packed zeros" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="holds no state of a tuning run"):
        load_state(path, "run", (2, 5))
