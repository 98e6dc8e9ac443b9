"""What data take of memory for each sample, by form.

    PYTHONPATH=. python tests/benchmarks/data_memory.py [--samples 200000] [--forms npz,csv]

Writes samples of 8×8 in each form (a million files of a class folder take 4 GB of disk), opens
them in a process of their own, names them by their digest, leaves out copies, deals them into
splits, and reads all of them. The figure is by how much the largest resident set exceeds that of
2,000 samples of the same form, in MB, and for each sample more in bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.data.splits import split
from cloakify.graph.analysis.inputs import InputSpec
from tests.benchmarks.peak import peak_memory_mb

# Samples that are the measure of what does not grow.
FEW = 2000
CLASSES = 10
TOGETHER = 1000
# Of a shard.
SHARD = 10_000
WIDTH = 16


def png(pixels: np.ndarray) -> bytes:
    """Return a plane of grey as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def images(start: int, count: int) -> list[bytes]:
    """Return images, each another one."""
    pixels = np.random.default_rng(start).integers(0, 256, (count, 8, 8), np.uint8)
    return [png(each) for each in pixels]


def numbers(start: int, count: int) -> np.ndarray:
    """Return samples of numbers, float32 [count, WIDTH]."""
    return np.random.default_rng(start).random((count, WIDTH), np.float32)


def parts(count: int, size: int = TOGETHER) -> Iterator[tuple[int, int]]:
    """Cut samples into parts: the first one's number, and how many."""
    return ((start, min(size, count - start)) for start in range(0, count, size))


def write_folder(path: Path, count: int) -> None:
    """Write a class folder."""
    for name in range(CLASSES):
        (path / f"class{name}").mkdir(parents=True)
    for start, size in parts(count):
        for number, data in enumerate(images(start, size), start):
            (path / f"class{number % CLASSES}" / f"image_{number:08}.png").write_bytes(data)


def write_tar(path: Path, count: int) -> None:
    """Write WebDataset's shards."""
    path.mkdir()
    for first, held in parts(count, SHARD):
        with tarfile.open(path / f"{first // SHARD:06}.tar", "w") as archive:
            for number, data in enumerate(images(first, held), first):
                label = str(number % CLASSES).encode()
                for ending, content in (("png", data), ("cls", label)):
                    info = tarfile.TarInfo(f"{number:08}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
                archive.members.clear()  # type: ignore[attr-defined]


def write_npy(path: Path, count: int) -> None:
    """Write a folder of arrays."""
    path.mkdir()
    x = np.random.default_rng(0).random((count, 1, 8, 8), np.float32)
    np.save(path / "x.npy", x)
    np.save(path / "y.npy", np.arange(count) % CLASSES)


def write_npz(path: Path, count: int) -> None:
    """Write an archive of arrays."""
    x = np.random.default_rng(0).random((count, 1, 8, 8), np.float32)
    np.savez(path, x=x, y=np.arange(count) % CLASSES)


def tables(count: int) -> Iterator[object]:
    """Yield tables of images, as `datasets` makes them."""
    import pyarrow

    for start, size in parts(count):
        rows = [{"bytes": data, "path": None} for data in images(start, size)]
        labels = [(start + n) % CLASSES for n in range(size)]
        kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
        yield pyarrow.table({"image": pyarrow.array(rows, kind), "label": labels})


def write_parquet(path: Path, count: int) -> None:
    """Write images in Parquet."""
    from pyarrow import parquet

    made = tables(count)
    first = next(made)
    with parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in made:
            writer.write_table(table)


def write_arrow(path: Path, count: int) -> None:
    """Write images in a stream of Arrow."""
    from pyarrow import ipc

    made = tables(count)
    first = next(made)
    with ipc.new_stream(str(path), first.schema) as writer:
        writer.write_table(first)
        for table in made:
            writer.write_table(table)


def write_csv(path: Path, count: int) -> None:
    """Write a table of numbers, and of names of classes."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(f"c{n}" for n in range(WIDTH)) + ",label\n")
        for start, size in parts(count):
            for number, row in enumerate(numbers(start, size), start):
                file.write(",".join(f"{value:.6f}" for value in row) + f",k{number % CLASSES}\n")


def write_jsonl(path: Path, count: int) -> None:
    """Write lines of JSON."""
    names = [f"c{n}" for n in range(WIDTH)]
    with open(path, "w", encoding="utf-8") as file:
        for start, size in parts(count):
            for number, row in enumerate(np.round(numbers(start, size).astype(float), 6), start):
                line = dict(zip(names, row.tolist(), strict=True)) | {"label": number % CLASSES}
                file.write(json.dumps(line) + "\n")


def write_frame(path: Path, count: int) -> None:
    """Write a table of numbers in Parquet."""
    import pyarrow
    from pyarrow import parquet

    x = numbers(0, count)
    columns = {f"c{n}": x[:, n] for n in range(WIDTH)} | {"label": np.arange(count) % CLASSES}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=1 << 16)


FORMS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "folder": ("images", write_folder),
    "tar": ("shards", write_tar),
    "npz": ("d.npz", write_npz),
    "npy": ("arrays", write_npy),
    "parquet": ("d.parquet", write_parquet),
    "arrow": ("d.arrow", write_arrow),
    "csv": ("d.csv", write_csv),
    "jsonl": ("d.jsonl", write_jsonl),
    "frame": ("frame.parquet", write_frame),
}


def use(path: Path, shape: tuple[int, ...]) -> None:
    """Do with all samples what a run does, but for the model."""
    axis = 1 if len(shape) == 3 else None
    spec = InputSpec("x", (None, *shape), np.dtype(np.float32), axis)
    data = open_data(path, spec, Preprocessing(), box=None if axis is None else (0.0, 1.0))
    data = data.for_classes(CLASSES, None, None).without_copies()
    dealt = split(len(data), data.labels, 0)
    read = sum(
        len(batch.x)
        for part in (dealt.fit, dealt.select, dealt.report)
        for batch in data.batches(part, 256)
    )
    print(json.dumps({"read": read, "peak": peak_memory_mb(), "cpu": time.process_time()}))


def measured(form: str, folder: Path, count: int) -> dict[str, float]:
    """Write samples of a form, and use them in another process."""
    name, write = FORMS[form]
    path = folder / name
    write(path, count)
    shape = (WIDTH,) if form in ("csv", "jsonl", "frame") else (1, 8, 8)
    call = [sys.executable, __file__, "--use", str(path), "--shape", json.dumps(shape)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--dir", type=Path, default=None, help="where samples are written")
    parser.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.use:
        use(options.use, tuple(json.loads(options.shape)))
        return
    print(
        "| form | samples | more, MB | bytes a sample | CPU, s |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for form in options.forms.split(","):
            few = measured(form, Path(folder), FEW)
            many = measured(form, Path(folder), options.samples)
            more = many["peak"] - few["peak"]
            each = more * (1 << 20) / (options.samples - FEW)
            row = f"| {form} | {options.samples:,} | {more:.0f} | {each:.0f} | {many['cpu']:.0f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
