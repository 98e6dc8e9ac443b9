"""Datasets: the same samples whatever the batch size, a digest of content, no thread left."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.data import Preprocessing, open_data
from cloakify.data.classes import read_names
from cloakify.data.prefetch import prefetch
from cloakify.errors import DataError, UsageError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()


def threads():
    """Return those that read data; a worker ends with its session, which a fixture may hold."""
    names = ("cloakify-data", "cloakify-decode")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


@pytest.fixture(params=["folder", "npz", "compressed"])
def data(request, class_folder, pixels, spec, tmp_path):
    if request.param == "folder":
        path = class_folder({"a": pixels(11, 4, 4), "b": pixels(12, 4, 4)})
    else:
        path = tmp_path / "d.npz"
        save = np.savez if request.param == "npz" else np.savez_compressed
        save(path, x=pixels(23, 1, 4, 4).astype(np.float32) / 255, y=np.arange(23) % 2)
    return open_data(path, spec(1, 4, 4), PLAIN)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 22)), st.integers(1, 30))
def test_batches_of_any_size_hold_the_same(data, indices, size):
    (whole,) = data.batches(batch_size=23)
    indices = np.array(indices, np.int64)
    batches = list(data.batches(indices, size))
    assert [len(batch.y) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    for name in ("x", "y", "index"):
        parts = [getattr(batch, name) for batch in batches]
        want = getattr(whole, name)[indices]
        np.testing.assert_array_equal(np.concatenate(parts) if parts else want[:0], want)
    assert not threads()


def test_a_limit_takes_some_of_each_class_and_says_which(data):
    half = open_data(data.path, _spec_of(data), PLAIN, limit=10, seed=5)
    assert len(half) == 10
    assert np.bincount(half.labels).tolist() == [5, 5]
    (some,), (whole,) = half.batches(), data.batches()
    np.testing.assert_array_equal(some.x, whole.x[half.rows])
    np.testing.assert_array_equal(some.y, whole.y[half.rows])
    assert half.sha256 != data.sha256


def _spec_of(data):
    from cloakify.graph.analysis.inputs import InputSpec

    return InputSpec("input", (None, *data.sample_shape), np.dtype("f4"), 1)


def test_the_models_answers_as_labels(data):
    bare = open_data(data.path, _spec_of(data), PLAIN, labels="model")
    labelled = bare.with_labels(np.arange(23) % 5)
    assert labelled.labels.dtype == np.int64
    assert next(labelled.batches(batch_size=4)).y.tolist() == [0, 1, 2, 3]
    assert labelled.sha256 == bare.sha256 != data.sha256
    with pytest.raises(DataError, match="23 samples"):
        bare.with_labels(np.arange(5))


def test_indices_and_batch_size_are_checked(data):
    with pytest.raises(UsageError, match="--batch-size must be at least 1"):
        data.batches(batch_size=0)
    with pytest.raises(IndexError):
        data.batches(np.array([23]))
    with pytest.raises(IndexError):
        data.batches(np.array([-1]))


def test_classes_are_held_against_the_logits(class_folder, pixels, spec):
    data = open_data(
        class_folder({"a": pixels(2, 4, 4), "b": pixels(1, 4, 4)}), spec(1, 4, 4), PLAIN
    )
    data.for_classes(2, None, None)
    with pytest.raises(DataError, match=r"has 2 classes \(a, b\) but the model has 3 logits"):
        data.for_classes(3, None, None)
    with pytest.raises(DataError, match=r"labels has shape|b/000.png has label 4 .* 0 to 1"):
        data.with_labels(np.array([0, 1, 4])).for_classes(2, None, None)
    bare = open_data(data.path, spec(1, 4, 4), PLAIN, labels="model")
    bare.for_classes(7, None, None)


def test_a_box_that_leaves_out_pixels(class_folder, pixels, spec):
    folder = class_folder({"a": pixels(2, 4, 4), "b": pixels(3, 4, 4)})
    for box in ((0.0, 0.5), (0.2, 1.0)):
        with pytest.raises(UsageError, match="leaves out pixels"):
            open_data(folder, spec(1, 4, 4), PLAIN, box=box)
    for box in ((0.0, 1.0), (-1.0, 2.0), None):
        assert len(open_data(folder, spec(1, 4, 4), PLAIN, box=box)) == 5


def test_what_is_no_data(tmp_path, spec):
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_data(tmp_path / "nowhere", spec(1, 4, 4), PLAIN)
    (tmp_path / "d.docx").touch()
    with pytest.raises(DataError, match=r"d.docx is no data that cloakify reads"):
        open_data(tmp_path / "d.docx", spec(1, 4, 4), PLAIN)
    (tmp_path / "d.py").touch()
    with pytest.raises(DataError, match=r"d.py is a program: .*d.py:FUNCTION"):
        open_data(tmp_path / "d.py", spec(1, 4, 4), PLAIN)


def test_the_digest_is_as_documented(data):
    if data.path.is_dir():
        files = sorted(data.path.rglob("*.png"))
        records = [
            (str(f.relative_to(data.path)).encode(), f.read_bytes(), int(f.parent.name == "b"))
            for f in files
        ]
    else:
        with np.load(data.path) as saved:
            records = [
                (b"", b"<f4 1,4,4\n" + x.tobytes(), int(y))
                for x, y in zip(saved["x"], saved["y"], strict=True)
            ]
    samples = []
    for record in records:
        fields = (*record[:2], struct.pack("<q", record[2]))
        content = b"".join(struct.pack("<Q", len(field)) + field for field in fields)
        samples.append(hashlib.sha256(content).digest())
    whole = hashlib.sha256(b"cloakify data 2\n" + b"".join(sorted(samples))).hexdigest()
    assert data.sha256 == whole


def test_the_digest_knows_content_not_place(class_folder, pixels, spec, tmp_path):
    first = class_folder({"a": pixels(2, 4, 4), "b": pixels(3, 4, 4)})
    moved = tmp_path / "else" / "where"
    shutil.copytree(first, moved)
    for file in moved.rglob("*.png"):
        os.utime(file, (0, 0))
    digests = [open_data(p, spec(1, 4, 4), PLAIN).sha256 for p in (first, moved)]
    assert digests[0] == digests[1]
    shutil.move(moved / "b" / "002.png", moved / "a" / "002.png")
    assert open_data(moved, spec(1, 4, 4), PLAIN).sha256 != digests[0]


def test_the_digest_knows_no_order(tmp_path, spec):
    rng = np.random.default_rng(0)
    x, y = rng.random((9, 1, 4, 4), np.float32), rng.integers(0, 3, 9)
    # Another label for a sample is other data, whatever the order.
    shuffled, turned = rng.permutation(9), np.roll(np.arange(9), 1)
    arrays = {"as it is": (x, y), "shuffled": (x[shuffled], y[shuffled]), "turned": (x, y[turned])}
    digests = {}
    for name, (samples, labels) in arrays.items():
        np.savez(tmp_path / f"{name}.npz", x=samples, y=labels)
        digests[name] = open_data(tmp_path / f"{name}.npz", spec(1, 4, 4), PLAIN).sha256
    assert digests["as it is"] == digests["shuffled"] != digests["turned"]


def test_closing_early_leaves_no_thread(data):
    batches = data.batches(batch_size=1)
    next(batches)
    assert len(threads()) >= 1
    batches.close()
    assert not threads()


def test_an_error_comes_at_its_place_and_leaves_no_thread():
    def make(item):
        if item == 3:
            raise DataError("third")
        return item

    seen = []
    with pytest.raises(DataError, match="third"):
        for result in prefetch(make, range(10)):
            seen.append(result)
    assert seen == [0, 1, 2]
    assert not threads()


def test_no_more_than_the_depth_is_made_ahead():
    made = []
    results = prefetch(lambda item: made.append(item) or item, range(100), depth=2)
    assert next(results) == 0
    time.sleep(0.05)
    assert made == [0, 1, 2]
    results.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path):
    script = """
import sys
import numpy as np
from cloakify.data import Preprocessing, open_data
from cloakify.graph.analysis.inputs import InputSpec

spec = InputSpec("x", (None, 1, 32, 32), np.dtype("f4"), 1)
data = open_data(sys.argv[1], spec, Preprocessing(), labels="model")
data.sha256
for batch in data.batches(batch_size=64):
    pass
print(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
"""
    peaks = []
    for n in (500, 16_000):
        np.save(tmp_path / f"{n}.npy", np.zeros((n, 1, 32, 32), np.float32))
        command = [sys.executable, "-c", script, str(tmp_path / f"{n}.npy")]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout) / 1024)
    # The second file is 62 MB; what differs is a list of indices, and chance.
    assert peaks[1] - peaks[0] < 12


def test_the_digest_of_rows_of_labels_is_as_documented(tmp_path, spec):
    rng = np.random.default_rng(0)
    x, y = rng.random((5, 1, 4, 4), np.float32), rng.integers(0, 2, (5, 3))
    np.savez(tmp_path / "d.npz", x=x, y=y)
    samples = []
    for image, labels in zip(x, y, strict=True):
        fields = (b"", b"<f4 1,4,4\n" + image.tobytes(), bytes(labels.tolist()))
        content = b"".join(struct.pack("<Q", len(field)) + field for field in fields)
        samples.append(hashlib.sha256(content).digest())
    whole = hashlib.sha256(b"cloakify data 2\n" + b"".join(sorted(samples))).hexdigest()
    assert open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN).sha256 == whole


def test_labels_from_one_on_are_told_what_to_do(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((6, 2), np.float32), y=np.array([3, 1, 2, 2, 1, 3]))
    spec = InputSpec("x", (None, 2), np.dtype(np.float32), None)
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    with pytest.raises(DataError, match=r"label 1 is the model's class 0") as caught:
        data.for_classes(3, None, None)
    # As it is advised.
    (advised,) = re.findall(r"--classes (\S+)", str(caught.value))
    named = data.for_classes(3, read_names(advised, 3), None)
    np.testing.assert_array_equal(named.labels, [2, 0, 1, 1, 0, 2])
    # Of others nothing is known.
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2), np.float32), y=np.array([1, 2, 5]))
    with pytest.raises(DataError, match=r"go from 0 to 2$"):
        open_data(tmp_path / "d.npz", spec, PLAIN).for_classes(3, None, None)


def test_labels_that_are_no_classes_are_named_with_examples(tmp_path):
    y = np.array([0, 1, 7, 3, 9, 7, 8, 3, 2])
    np.savez(tmp_path / "d.npz", x=np.zeros((9, 2), np.float32), y=y)
    spec = InputSpec("x", (None, 2), np.dtype(np.float32), None)
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    with pytest.raises(DataError) as caught:
        data.for_classes(3, None, None)
    said = str(caught.value)
    for row, label in ((4, 9), (6, 8), (2, 7)):
        assert f"row {row} has label {label}" in said
    assert "(6 of 9 samples have such): labels go from 0 to 2" in said
