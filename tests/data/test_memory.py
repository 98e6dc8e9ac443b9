"""What is kept of each sample are a few numbers, whatever the form: no object takes so little."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Preprocessing, cells, npy, open_data, source
from cloakify.data.open_source import open_source
from cloakify.data.request import Request
from cloakify.graph.analysis.inputs import InputSpec
from tests.benchmarks.data_memory import CLASSES, FORMS, WIDTH

FEW, MANY = 512, 2048
# A class index, a row, and 16 bytes of a digest are 32; files and members have places and names.
KEPT = 64
# On the way there are the digests that all samples are named by, and orders of them.
WHILE = 160


def opened(path: Path, form: str) -> object:
    shape = (WIDTH,) if form in ("csv", "jsonl", "frame") else (1, 8, 8)
    axis = 1 if len(shape) == 3 else None
    spec = InputSpec("x", (None, *shape), np.dtype(np.float32), axis)
    data = open_data(path, spec, Preprocessing(), box=None if axis is None else (0.0, 1.0))
    return data.for_classes(CLASSES, None, None).without_copies()


def sentences(path: Path, form: str) -> object:
    opened = open_source(path, Request("ids", ids=True))
    for _ in opened.payloads(np.arange(len(opened))):
        pass
    return opened


def write_sentences(path: Path, count: int) -> None:
    lines = (f"sentence number {n} of some,{n % CLASSES}\n" for n in range(count))
    path.write_text("text,label\n" + "".join(lines))


def measured(call, path: Path, form: str) -> tuple[int, int]:
    """Bytes that are kept, and the most that were held."""
    gc.collect()
    tracemalloc.start()
    try:
        held = call(path, form)
        gc.collect()
        found = tracemalloc.get_traced_memory()
        del held
    finally:
        tracemalloc.stop()
    return found


@pytest.mark.parametrize("form", [*FORMS, "sentences"])
def test_memory_does_not_grow_by_objects(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is read together would be most of so few samples.
    monkeypatch.setattr(cells, "_TOGETHER", 64)
    monkeypatch.setattr(npy, "_TOGETHER", 1 << 12)
    monkeypatch.setattr(source, "_CHUNK_BYTES", 1 << 12)
    if form in ("parquet", "arrow", "frame"):
        pytest.importorskip("pyarrow")
    call = sentences if form == "sentences" else opened
    name, write = ("d.csv", write_sentences) if form == "sentences" else FORMS[form]
    found = []
    for number, count in enumerate((FEW, MANY)):
        path = tmp_path / str(number)
        path.mkdir()
        write(path / name, count)
        # What is made once, whenever that may be, is not in the least of three.
        runs = [measured(call, path / name, form) for _ in range(3)]
        found.append([min(each) for each in zip(*runs, strict=True)])
    kept, most = ((many - few) / (MANY - FEW) for few, many in zip(*found, strict=True))
    print(f"{form}: {kept:.0f} bytes a sample, {most:.0f} on the way")
    assert kept < KEPT
    assert most < WHILE
