"""Compressed tables and lists: the same as what they unpack to, and no more than is believed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.data import Dataset, Preprocessing, bounds, cells, compressed, open_data, text_files
from cloakify.errors import CloakifyError, DataError
from cloakify.graph.analysis.inputs import InputSpec

ROWS = InputSpec("x", (None, 3), np.dtype(np.float32), None)


def zstandard(data: bytes) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    return bytes(pyarrow.compress(data, "zstd", asbytes=True))


KINDS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard}


def opened(path: Path, labels: str = "given", spec: InputSpec = ROWS) -> Dataset:
    return open_data(path, spec, Preprocessing(), labels=labels, box=None)


def table(count: int = 40) -> dict[str, bytes]:
    """The same rows as each kind of table."""
    rows = np.random.default_rng(7).normal(size=(count, 3)).astype(np.float32)
    lines = [(*map(str, row), ("cat", "dog")[n % 2]) for n, row in enumerate(rows.tolist())]
    header = ("a", "b", "c", "label")
    objects = "\n".join(
        f'{{"a": {a}, "b": {b}, "c": {c}, "label": "{label}"}}' for a, b, c, label in lines
    )
    return {
        **{
            f".{kind}": "\n".join(sign.join(line) for line in (header, *lines)).encode()
            for kind, sign in (("csv", ","), ("tsv", "\t"))
        },
        ".jsonl": objects.encode(),
        ".ndjson": objects.encode(),
    }


@pytest.mark.parametrize("packed", KINDS)
@pytest.mark.parametrize("kind", table())
def test_a_compressed_table_is_the_table(tmp_path, kind, packed):
    data = table()[kind]
    (tmp_path / f"plain{kind}").write_bytes(data)
    # Several streams behind each other, as tools that compress in parallel write them.
    half = data.index(b"\n", len(data) // 2)
    compress = KINDS[packed]
    path = tmp_path / f"t{kind.upper()}{packed}"
    path.write_bytes(compress(data[:half]) + compress(data[half:]))
    expected, found = opened(tmp_path / f"plain{kind}"), opened(path)
    assert found.sha256 == expected.sha256
    assert found.class_names == ("cat", "dog")
    # In whatever it lies: a folder of its own, a pattern.
    (tmp_path / "d").mkdir()
    path.rename(tmp_path / "d" / path.name)
    assert opened(tmp_path / "d").sha256 == expected.sha256
    assert opened(tmp_path / "d" / "*").sha256 == expected.sha256


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_mark_counts_behind_the_compression(tmp_path, mark):
    text = table()[".csv"].decode()
    (tmp_path / "t.csv").write_bytes(text.encode())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode(mark)))
    assert opened(tmp_path / "t.csv.gz").sha256 == opened(tmp_path / "t.csv").sha256


@pytest.mark.parametrize("packed", KINDS)
def test_lists_of_labels(tmp_path, packed):
    x, y = np.zeros((6, 3), np.float32), np.array([0, 1, 2, 0, 1, 2])
    np.save(tmp_path / "x.npy", x + np.arange(6)[:, None])
    lists = {
        "l.csv": "label\n" + "\n".join(map(str, y)),
        "l.txt": "\n".join(map(str, y)),
        "l.json": str(y.tolist()),
    }
    for name, text in lists.items():
        (tmp_path / f"{name}{packed}").write_bytes(KINDS[packed](text.encode()))
        found = opened(tmp_path / "x.npy", str(tmp_path / f"{name}{packed}"))
        np.testing.assert_array_equal(found.labels, y)


def test_text_that_begins_as_bzip2_does_is_text(tmp_path):
    (tmp_path / "t.csv").write_text("BZh1,label\n1,0\n2,1\n")
    assert len(opened(tmp_path / "t.csv", spec=InputSpec("x", (None, 1), np.dtype("f4"), None)))


def test_a_table_and_what_it_was_compressed_to_are_not_taken_together(tmp_path):
    data = table()[".csv"]
    (tmp_path / "t.csv").write_bytes(data)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError, match=r"holds both .*t.csv.*t.csv.gz"):
        opened(tmp_path)


@given(st.sampled_from([".gz", ".bz2", ".xz", ".zst"]), st.data())
@settings(deadline=None)
def test_a_damaged_file_is_refused_in_one_line_or_the_same(tmp_path_factory, packed, data):
    tmp_path = tmp_path_factory.mktemp("damaged")
    whole = table()[".csv"]
    (tmp_path / "t.csv").write_bytes(whole)
    spoilt = bytearray(KINDS[packed](whole))
    for _ in range(data.draw(st.integers(0, 3))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(spoilt) - 1))
    path = tmp_path / f"t.csv{packed}"
    path.write_bytes(bytes(spoilt[: len(spoilt) - cut]))
    try:
        found = opened(path)
    except CloakifyError as error:
        assert "\n" not in str(error)
    else:
        assert found.sha256 == opened(tmp_path / "t.csv").sha256


@pytest.mark.parametrize("packed", KINDS)
def test_a_bomb_is_refused_while_it_unpacks(tmp_path, monkeypatch, packed):
    """By how much it is more than it was, and by how much text is read at all."""
    path = tmp_path / f"t.csv{packed}"
    path.write_bytes(KINDS[packed](b"a,b,c,label\n" + b"0,0,0,1\n" * (1 << 18)))
    with monkeypatch.context() as patched:
        patched.setattr(bounds, "LARGEST_UNPACKED", 1 << 20)
        with pytest.raises(DataError, match=r"claims to unpack from .* bytes to"):
            opened(path)
    monkeypatch.setattr(cells, "_LARGEST", 1 << 20)
    with pytest.raises(DataError, match=r"unpacks to more than 0.0 GB: give it as .parquet"):
        opened(path)


@pytest.mark.parametrize("start", [b"", b"a,b\n", b'{"a": "'])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("form", ["data", "labels"])
def test_one_line_of_gigabytes_is_not_held(tmp_path, monkeypatch, start, kind, form):
    monkeypatch.setattr(text_files, "_LONGEST_LINE", 1 << 18)
    path = tmp_path / f"t.{kind}.gz"
    path.write_bytes(gzip.compress(start + b"a" * (1 << 24)))
    np.save(tmp_path / "x.npy", np.zeros((2, 3), np.float32))
    where = (path,) if form == "data" else (tmp_path / "x.npy", str(path))
    opened(tmp_path / "x.npy", "model")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"line of more than|line 1 is no JSON") as caught:
            opened(*where)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_xz_that_wants_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}]
    (tmp_path / "t.csv.xz").write_bytes(lzma.compress(table()[".csv"], filters=filters))
    with pytest.raises(DataError, match=r"can't be unpacked \(Memory usage limit exceeded\)"):
        opened(tmp_path / "t.csv.xz")


@pytest.mark.parametrize("packed", ["", ".gz", ".xz"])
def test_memory_is_that_of_the_plain_table(tmp_path, monkeypatch, packed):
    """A table is never held whole: of 250 kB and of 1 MB the same is held on the way."""
    monkeypatch.setattr(cells, "_TOGETHER", 256)
    held = []
    for factor in (1, 4):
        path = tmp_path / f"t{factor}.csv{packed}"
        data = table(4_000 * factor)[".csv"]
        path.write_bytes(KINDS[packed](data) if packed else data)
        del data
        opened(path)
        tracemalloc.start()
        try:
            opened(path)
            held.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # Labels, and digests of rows, are kept; what is unpacked together is not full at first.
    assert held[1] - held[0] < 12_000 * 64 + compressed.TOGETHER
    assert held[0] < 1 << 24


def test_what_is_compressed_is_told_by_its_bytes(tmp_path):
    for name, data in (("a", b"plain"), ("b.gz", b"plain")):
        (tmp_path / name).write_bytes(data)
        with compressed.unpacked(tmp_path / name) as file:
            assert file is None
    (tmp_path / "c").write_bytes(gzip.compress(b"plain"))
    with compressed.unpacked(tmp_path / "c") as file:
        assert file is not None and file.read() == b"plain"


@pytest.mark.parametrize(("packed", "module"), [(".bz2", "bz2"), (".xz", "lzma")])
def test_a_python_without_the_library_says_so(tmp_path, packed, module):
    (tmp_path / "t.csv").write_bytes(table()[".csv"])
    (tmp_path / f"t.csv{packed}").write_bytes(KINDS[packed](table()[".csv"]))
    code = (
        "import sys; sys.modules[sys.argv[2]] = None\n"
        "import numpy as np\n"
        "from cloakify.data import Preprocessing, open_data\n"
        "from cloakify.errors import DataError\n"
        "from cloakify.graph.analysis.inputs import InputSpec\n"
        "spec = InputSpec('x', (None, 3), np.dtype(np.float32), None)\n"
        "try:\n    open_data(sys.argv[1], spec, Preprocessing(), box=None)\n"
        "except DataError as error:\n    print(error)\n"
    )
    for name, said in (("t.csv", ""), (f"t.csv{packed}", f"was built without {module}")):
        words = [sys.executable, "-c", code, str(tmp_path / name), module]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert said in done.stdout and bool(done.stdout) == bool(said)
