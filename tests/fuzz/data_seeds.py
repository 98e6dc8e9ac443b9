"""The data that are mutated: a few samples in every format that cloakify reads."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.support.text_models import TextModel

# The files of a data set by their names; the first one's name, or its first folder, is what the
# verb is given.
Files = dict[str, bytes]

SIDE, COUNT = 8, 6


def data_seeds() -> dict[str, Callable[[], Files]]:
    """Return what makes each seed, by name."""
    images = {
        "png": {},
        "jpg": {"quality": 80},
        "bmp": {},
        "gif": {},
        "tiff": {"compression": "tiff_lzw"},
        "webp": {"lossless": True},
        "ppm": {},
    }
    made: dict[str, Callable[[], Files]] = {
        kind: lambda kind=kind, options=options: _folder(kind, options)
        for kind, options in images.items()
    }
    return (
        made
        | {
            "npz": lambda: {"d.npz": _npz(np.savez)},
            "packed": lambda: {"d.npz": _npz(np.savez_compressed)},
            "npy": lambda: {"d/x.npy": _npy(_arrays()["x"]), "d/y.npy": _npy(_arrays()["y"])},
            "tar": lambda: {"d.tar": _tar()},
            "tar.gz": lambda: {"d.tgz": gzip.compress(_tar(), mtime=0)},
            "tar.zst": lambda: {"d.tar.zst": _zstd(_tar())},
            "tar arrays": lambda: {"d.tar": _tar_of({"d.npz": _npz(np.savez)})},
            "tar cifar": lambda: {"d.tgz": gzip.compress(_tar_of(_cifar()), mtime=0)},
            "parquet": lambda: {"d.parquet": _parquet()},
            "parquet images": lambda: {"d.parquet": _parquet_images()},
            "arrow": lambda: {"d.arrow": _arrow(_lists(), None)},
            "feather": lambda: {"d.feather": _arrow(_lists(), "zstd")},
            "saved": _saved,
            "frame": lambda: {"d.parquet": _frame_parquet()},
            "frame feather": lambda: {"d.feather": _arrow(_frame(), "lz4")},
            "structs": lambda: {"d.parquet": _structs_parquet()},
            "structs arrow": lambda: {"d.arrow": _arrow(_structs(), None)},
            "lines": lambda: {"d.jsonl": _LINES},
            "one-hot": lambda: {"d.csv": b"a,b,y_cat,y_dog\n0.5,1,0,1\n0.25,0,1,0\n1,2,0,1\n"},
            "utf-16": lambda: {"d.tsv": "a\tlabel\n1\tÖl\n2\tcat\n".encode("utf-16")},
            "tar names": lambda: {"d.tar": _tar(lambda n: {"cls": b"c%d" % (n % 4)})},
            "tar json": lambda: {"d.tar": _tar(lambda n: {"json": b'{"label": %d}' % (n % 4)})},
            "tar folders": lambda: {"d.tgz": gzip.compress(_tar(None), mtime=0)},
            "csv": lambda: {"d.csv": _CSV},
            "csv.gz": lambda: {"d.csv.gz": gzip.compress(_CSV, mtime=0)},
            "csv.bz2": lambda: {"d.csv.bz2": bz2.compress(_CSV)},
            "jsonl.xz": lambda: {"d.jsonl.xz": lzma.compress(_LINES)},
            "csv.zst": lambda: {"d.csv.zst": _zstd(_CSV)},
            "zip": lambda: {"d.zip": _zip({"d.npz": _npz(np.savez)})},
            "zip images": lambda: {"d.zip": _zip(_folder("png", {}))},
            "cifar": _cifar,
            "listed": _listed,
            "text": lambda: _text("d.csv", b'text,label\nw4 w5,1\nw6,0\n"w7, w8",2\n'),
            "pairs": lambda: _text("d.jsonl", _PAIRS),
        }
        | {
            f"labels {kind}": lambda kind=kind, made=made: _flat() | {f"labels.{kind}": made}
            for kind, made in _label_lists().items()
        }
    )


_CSV = b"x,label\n0.5,1\n0.25,cat\n1,dog\n"


def _zip(files: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _cifar() -> Files:
    random = np.random.default_rng(4)
    rows = [bytes([number % 4]) + random.bytes(3072) for number in range(COUNT)]
    return {"d/test_batch.bin": b"".join(rows), "d/batches.meta.txt": b"a\nb\nc\nd\n"}


def _arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "x": random.random((COUNT, 1, SIDE, SIDE), np.float32),
        "y": random.integers(0, 4, COUNT),
    }


def _encoded(number: int, kind: str, options: dict[str, object]) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    names = {"jpg": "JPEG", "tiff": "TIFF", "ppm": "PPM"}
    Image.fromarray(pixels).save(file, names.get(kind, kind.upper()), **options)
    return file.getvalue()


def _folder(kind: str, options: dict[str, object]) -> Files:
    return {
        f"d/{number % 4}/{number}.{kind}": _encoded(number, kind, options)
        for number in range(COUNT)
    }


def _npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, **_arrays())
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _indices(number: int) -> dict[str, bytes]:
    return {"cls": b"%d" % (number % 4)}


def _tar(labels: Callable[[int], dict[str, bytes]] | None = _indices) -> bytes:
    """A tar of images, with labels beside them, or in class folders."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(COUNT):
            beside = {} if labels is None else labels(number)
            folder = f"d/c{number % 4}/" if labels is None else ""
            for ending, data in ({"png": _encoded(number, "png", {})} | beside).items():
                info = tarfile.TarInfo(f"{folder}{number:03}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _tar_of(files: Files) -> bytes:
    """A tar of files that are no images."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _zstd(data: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.compress(data, "zstd", asbytes=True))


def _frame() -> Any:
    """A table of numbers, with independent labels as lists and an index, as pandas writes it."""
    import pyarrow

    columns = {f"c{n}": np.linspace(n, n + 1, COUNT).astype(np.float32) for n in range(3)}
    labels = [[n % 2, 1 - n % 2] for n in range(COUNT)]
    return pyarrow.table({**columns, "label": labels, "__index_level_0__": list(range(COUNT))})


def _frame_parquet() -> bytes:
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(_frame(), file, row_group_size=4)
    return file.getvalue()


def _structs() -> Any:
    """A table of structs of numbers, one of decimals, with categorical labels."""
    import pyarrow

    rows = [{"a": n / 4, "b": {"c": n, "d": -n}} for n in range(COUNT)]
    decimals = pyarrow.array([1.5 * n for n in range(COUNT)]).cast(pyarrow.decimal128(9, 4))
    labels = pyarrow.array([n % 4 for n in range(COUNT)]).dictionary_encode()
    return pyarrow.table({"s": rows, "e": decimals, "label": labels})


def _structs_parquet() -> bytes:
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(_structs(), file, row_group_size=4)
    return file.getvalue()


def _parquet() -> bytes:
    import pyarrow.parquet

    arrays = _arrays()
    file = io.BytesIO()
    table = pyarrow.table({"x": arrays["x"].tolist(), "label": arrays["y"]})
    pyarrow.parquet.write_table(table, file, row_group_size=4)
    return file.getvalue()


def _parquet_images() -> bytes:
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(_images(), file)
    return file.getvalue()


def _images() -> Any:
    import pyarrow

    images = [{"bytes": _encoded(n, "png", {}), "path": f"{n}.png"} for n in range(COUNT)]
    classes = {"_type": "ClassLabel", "names": ["a", "b", "c", "d"]}
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": classes}}}
    table = pyarrow.table({"image": images, "label": [n % 4 for n in range(COUNT)]})
    return table.replace_schema_metadata({"huggingface": json.dumps(told)})


def _lists() -> Any:
    import pyarrow

    arrays = _arrays()
    names = pyarrow.array([f"class {each}" for each in arrays["y"]]).dictionary_encode()
    return pyarrow.table({"x": arrays["x"].tolist(), "label": names})


def _arrow(table: Any, packing: str | None) -> bytes:
    """As a stream, or packed as a file."""
    import pyarrow.ipc

    file = io.BytesIO()
    options = pyarrow.ipc.IpcWriteOptions(compression=packing)
    make = pyarrow.ipc.new_file if packing else pyarrow.ipc.new_stream
    with make(file, table.schema, options=options) as writer:
        writer.write_table(table, 4)
    return file.getvalue()


def _saved() -> Files:
    state = {"_data_files": [{"filename": "data.arrow"}]}
    return {
        "d/data.arrow": _arrow(_images(), None),
        "d/state.json": json.dumps(state).encode(),
        "d/dataset_info.json": b"{}",
    }


_LINES = b"""{"a": 0.5, "b": true, "label_0": 1, "label_1": 0}
{"a": -2, "b": false, "label_0": 0, "label_1": 1}
"""

_PAIRS = b"""{"sentence1": "w4", "sentence2": "w5 w6", "label": 1}
{"sentence1": "w7 w4", "sentence2": "w9", "label": 0}
"""


def _text(name: str, data: bytes) -> Files:
    """Text, and a classifier of ids with a tokenizer of words."""
    words = {"[PAD]": 0, "[UNK]": 1} | {f"w{number}": number for number in range(4, 50)}
    tokenizer = {
        "version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "truncation": {"direction": "Right", "max_length": 6, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }  # fmt: skip
    return {
        name: data,
        "tokenizer.json": json.dumps(tokenizer).encode(),
        "tokenizer_config.json": b'{"pad_token": "[PAD]", "model_max_length": 8}',
        "m.onnx": TextModel().model.SerializeToString(),
    }


def _flat() -> Files:
    return {f"d/{number}.png": _encoded(number, "png", {}) for number in range(COUNT)}


def _label_lists() -> dict[str, bytes]:
    named = [(f"{number}.png", number % 4) for number in range(COUNT)]
    return {
        "npy": _npy(np.array([label for _, label in named])),
        "csv": "\n".join(["file_name,label", *(f"{n},{y}" for n, y in named)]).encode(),
        "txt": "\n".join(f"{n} {y}" for n, y in named).encode(),
        "words.txt": "\n".join(["#n y", *(f"{n[:-4]} {y} 1 1" for n, y in named)]).encode(),
        "json": json.dumps(dict(named)).encode(),
    }


def _listed() -> Files:
    rows = [{"file_name": f"{n}.png", "label": f"c{n % 4}"} for n in range(COUNT)]
    images = {f"d/{n}.png": _encoded(n, "png", {}) for n in range(COUNT)}
    return images | {"d/metadata.jsonl": "\n".join(map(json.dumps, rows)).encode()}
