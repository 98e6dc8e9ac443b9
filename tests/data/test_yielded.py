"""Samples that functions and iterables yield are those of a file with the same arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
COUNT = 11


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return random.random((COUNT, 1, 4, 4), np.float32), random.integers(0, 3, COUNT)


class Reader:
    """As ONNX Runtime's calibration readers: batches by the input's name, then None."""

    def __init__(self, x):
        self._batches = iter([{"input": x[start : start + 4]} for start in range(0, len(x), 4)])

    def get_next(self):
        return next(self._batches, None)


class Tensor:
    """A tensor that gradients are kept for: NumPy takes it detached only."""

    def __init__(self, values, detached=False):
        self._values, self._detached = values, detached

    def detach(self):
        return Tensor(self._values, detached=True)

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        if not self._detached:
            raise RuntimeError("requires grad")
        return np.asarray(self._values)


class ByNumber:
    """As PyTorch's data sets: no iterator of its own."""

    def __init__(self, x, y):
        self._pairs = list(zip(x, y, strict=True))

    def __len__(self):
        return len(self._pairs)

    def __getitem__(self, number):
        # Not as sequences do: the end is not told by an IndexError.
        return self._pairs[number % len(self)]


def forms(x, y):
    return {
        "pairs": zip(x, y, strict=True),
        "by number": ByNumber(x, y),
        "a list of lists": [[a, int(b)] for a, b in zip(x, y, strict=True)],
        "batches": [(x[s : s + 4], y[s : s + 4]) for s in range(0, COUNT, 4)],
        "without channels": [(a[0], b) for a, b in zip(x, y, strict=True)],
        "batches without channels": [(x[s : s + 4, 0], y[s : s + 4]) for s in (0, 4, 8)],
        "mappings": [{"input": a, "label": b} for a, b in zip(x, y, strict=True)],
        "mappings by another name": [{"image": a, "y": [b]} for a, b in zip(x, y, strict=True)],
        "tensors": [(Tensor(a), Tensor(b)) for a, b in zip(x, y, strict=True)],
        "floats for labels": [(a, float(b)) for a, b in zip(x, y, strict=True)],
        "batches of mappings": [({"input": x}, y)],
    }


@pytest.mark.parametrize("form", list(forms(np.zeros((COUNT, 1, 4, 4)), np.zeros(COUNT, int))))
def test_what_is_yielded_is_what_a_file_holds(tmp_path, spec, arrays, form):
    x, y = arrays
    np.savez(tmp_path / "d.npz", x=x, y=y)
    whole = open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN)
    data = open_data(forms(x, y)[form], spec(1, 4, 4), PLAIN)
    assert data.labels is not None and data.labels.tolist() == y.tolist()
    order = np.random.default_rng(1).permutation(COUNT)
    for _ in range(2):
        (batch,) = data.batches(order)
        np.testing.assert_array_equal(batch.x, x[order])
    if "without" not in form:
        assert data.sha256 == whole.sha256
    assert len(open_data(forms(x, y)[form], spec(1, 4, 4), PLAIN, limit=5)) == 5


def test_a_reader_has_no_labels(tmp_path, spec, arrays):
    x, y = arrays
    np.save(tmp_path / "y.npy", y)
    with pytest.raises(DataError, match=r"<Reader> item 0 has no label: yield \(x, y\)"):
        open_data(Reader(x), spec(1, 4, 4), PLAIN)
    data = open_data(Reader(x), spec(1, 4, 4), PLAIN, labels="model")
    assert data.labels is None and len(data) == COUNT
    data = open_data(Reader(x), spec(1, 4, 4), PLAIN, labels=str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(data.labels, y)
    bare = open_data(iter(x), spec(1, 4, 4), PLAIN, labels="model")
    assert bare.sha256 == open_data(Reader(x), spec(1, 4, 4), PLAIN, labels="model").sha256


def test_the_runtime_s_own_reader(spec, arrays):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    x, _ = arrays

    class Own(calibrate.CalibrationDataReader):
        def __init__(self):
            self._inner = Reader(x)

        def get_next(self):
            return self._inner.get_next()

    data = open_data(Own(), spec(1, 4, 4), PLAIN, labels="model")
    (batch,) = data.batches()
    np.testing.assert_array_equal(batch.x, x)


def test_images_and_names(tmp_path, spec, pixels, class_folder):
    images = pixels(4, 4, 4)
    folder = class_folder({"cat": images[:2], "dog": images[2:]})
    files = sorted(folder.rglob("*.png"))
    whole = open_data(folder, spec(1, 4, 4), PLAIN)
    (expected,) = whole.batches()
    opened = [(Image.open(file), file.parent.name) for file in files]
    mappings = [{"photo": image, "label": name, "id": 7} for image, name in opened]
    for form in (opened, mappings, [(file.read_bytes(), file.parent.name) for file in files]):
        data = open_data(form, spec(1, 4, 4), PLAIN)
        (batch,) = data.batches()
        np.testing.assert_array_equal(batch.x, expected.x)
        assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 0, 1, 1]
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"]
    made = [(Image.new(mode, (4, 4)), 0) for mode in modes]
    assert len(next(open_data(made, spec(3, 4, 4), PLAIN).batches()).x) == len(modes)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "La", "RGBa", "CMYK"])
def test_modes_that_files_do_not_hold_are_the_colours_that_pillow_makes_of_them(mode, spec):
    grid = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(grid, "RGB")
    image = {
        "La": lambda: image.convert("LA").convert("La"),
        "RGBa": lambda: image.convert("RGBA").convert("RGBa"),
    }.get(mode, lambda: image.convert(mode))()
    expected = {
        "La": lambda: image.convert("LA").convert("RGB"),
        "RGBa": lambda: image.convert("RGBA").convert("RGB"),
    }.get(mode, lambda: image.convert("RGB"))()
    (batch,) = open_data([(image, 0)], spec(3, 4, 4), PLAIN).batches()
    whole = np.rint(batch.x[0].transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(whole, np.asarray(expected))


def test_independent_labels(spec):
    y = np.array([[0, 1], [1, 1], [0, 0]])
    x = np.zeros((3, 4), np.float32)
    for form in (zip(x, y, strict=True), [(x, y)]):
        data = open_data(form, spec(4, channel_axis=None), PLAIN)
        np.testing.assert_array_equal(data.labels, y)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "<list> holds no samples"),
        ({"x": 1}, "<dict> gives no samples but dict: give"),
        (
            [(np.zeros(4), 0), (np.zeros(5), 0)],
            r"item 1 holds samples of shape \(5\) but input",
        ),
        ([(np.zeros(5), 0)], r"item 0 holds samples of shape \(5\) but input 'input' takes \(4\)"),
        ([(np.zeros((3, 5)), np.zeros(3))], "takes"),
        ([(np.zeros((3, 4)), np.zeros(2, int))], "item 0 has 2 labels for 3 samples"),
        ([(np.zeros(4), 0.5)], "no class index"),
        ([(np.zeros(4), -1)], "class indices count from 0"),
        ([(np.zeros(4), [0, 1]), (np.zeros(4), 1)], "labels differ in shape"),
        ([(object(), 0)], "item 0, 'input', is a object"),
        ([([[1], [2, 3]], 0)], "raises ValueError"),
        ([("words", 0)], "holds text, and the model takes float32"),
        ([(np.zeros(4), 0), (np.zeros(4, "f"), 0)], "item 1 holds float32 .* those before"),
        ([(np.zeros(4), 0), (b"GIF8", 0)], "item 1 is of another kind"),
        ([{"a": np.zeros(4), "b": np.zeros(4), "y": 0}], "name the samples 'input'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "samples",
)
def test_what_can_not_be_samples_is_one_line(spec, data, said):
    with pytest.raises(DataError, match=said) as caught:
        list(open_data(data, spec(4, channel_axis=None), PLAIN).batches())
    assert "\n" not in str(caught.value)


def test_a_reader_s_class_is_called_for_one(tmp_path, spec):
    path = script(
        tmp_path,
        "import numpy as np\nclass Reader:\n    def __init__(self):\n        self.left = 3\n"
        "    def get_next(self):\n        self.left -= 1\n"
        "        return {'input': np.zeros((2, 4), np.float32)} if self.left >= 0 else None\n"
        "READER = Reader()\n",
    )
    for name in ("Reader", "READER"):
        data = open_data(f"{path}:{name}", spec(4, channel_axis=None), PLAIN, labels="model")
        assert len(data) == 6


def script(tmp_path, text):
    (tmp_path / "load.py").write_text(text)
    return tmp_path / "load.py"


def test_a_function_in_a_script(tmp_path, spec, monkeypatch, capsys):
    (tmp_path / "beside_it.py").write_text("COUNT = 3\n")
    path = script(
        tmp_path,
        "import numpy as np\nimport beside_it\nprint('loading')\n"
        "def samples():\n    for n in range(beside_it.COUNT):\n"
        "        print('one')\n        yield np.full(4, n / 4, np.float32), n\n"
        "READY = [(np.zeros(4, np.float32), 0)]\n",
    )
    data = open_data(f"{path}:samples", spec(4, channel_axis=None), PLAIN)
    assert data.labels.tolist() == [0, 1, 2]
    assert data.notes == (f"{path}:samples was run, and yielded 3 samples",)
    assert data.where(1).endswith("load.py:samples array 'input' row 1")
    assert len(open_data(f"{path}:READY", spec(4, channel_axis=None), PLAIN)) == 1
    monkeypatch.chdir(tmp_path)
    assert len(open_data("load:samples", spec(4, channel_axis=None), PLAIN)) == 3
    printed = capsys.readouterr()
    assert printed.out == "" and "loading" in printed.err
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "samples", "has no 'samples': it has no function"),
        ("import json; N = 3\ndef other(): pass\nREADY = []", "samples", "it has other, READY$"),
        ("def samples(): return 3", "samples", "gives no samples but int: give a pair of arrays"),
        (
            "def samples(folder, *more, n=3): pass",
            "samples",
            "is called without arguments, and takes folder: give a function that calls it",
        ),
        (
            "class Reader:\n def __init__(self, a, b): pass\n def get_next(self): pass",
            "Reader",
            "is called without arguments, and takes a, b: give a function",
        ),
        ("import absent_module", "samples", "raises ModuleNotFoundError: No module"),
        ("x = (", "samples", "raises SyntaxError"),
        (
            "def samples():\n    yield [0] * 4, 0\n    raise KeyError('a\\nb')",
            "samples",
            r"raises KeyError: .* at line 3 of .*load.py: mend it",
        ),
        ("raise SystemExit(3)", "samples", "raises SystemExit: 3"),
        ("raise SystemExit", "samples", r"raises SystemExit at line 1 of .*load.py"),
        ("import absent_module", "samples", "No module named .absent_module. at line 1 of"),
    ],
)
def test_what_a_script_does_wrong_is_one_line(tmp_path, spec, text, name, said):
    path = script(tmp_path, text)
    ids = InputSpec("ids", (None, 4), np.dtype(np.int64), None)
    with pytest.raises(DataError, match=said) as caught:
        open_data(f"{path}:{name}", ids, PLAIN, box=None)
    assert "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path, spec):
    for path, said in (
        (tmp_path / "absent.py:f", "absent.py does not exist"),
        (Path("absent_module:f"), "raises ModuleNotFoundError"),
    ):
        with pytest.raises(DataError, match=said):
            open_data(path, spec(4, channel_axis=None), PLAIN)
    np.savez(tmp_path / "odd.py:f", x=np.zeros((1, 4), np.float32), y=[0])
    (tmp_path / "odd.py:f.npz").rename(tmp_path / "odd.py:f")
    with pytest.raises(DataError, match="is a zip archive"):
        open_data(tmp_path / "odd.py:f", spec(4, channel_axis=None), PLAIN)
