"""What a file is that is no ONNX model, by its first bytes, and what to do about it."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath

# By where they stand and what they are; texts of the web and of ONNX are told apart after these.
_SIGNS = (
    (0, b"version https://git-lfs", "a Git LFS pointer to it: fetch the file (git lfs pull)"),
    (4, b"ORTM", "ONNX Runtime's own format: give the .onnx file that it was made of"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it (tf2onnx takes it with --tflite)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves: {keras}"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it"),
    (0, b"ptrt", "a TensorRT engine: give the .onnx file that it was made of"),
    (0, b"ftrt", "a TensorRT engine: give the .onnx file that it was made of"),
    (0, b"ISNN", "a MNN model: give the .onnx file that it was made of"),
)
_HINTS = {
    "keras": 'export it to ONNX (model.export("model.onnx", format="onnx"))',
    "torch": "export it to ONNX (torch.onnx.export)",
}


def other_format(content: bytes, name: str) -> str | None:
    """Say what a file is, and what to do about it; ``None`` where that is not known.

    Parameters
    ----------
    content
        All that it holds.
    name
        What it is called.
    """
    if not content:
        return "an empty file: was it copied or downloaded whole?"
    for start, sign, what in _SIGNS:
        if content[start : start + len(sign)] == sign:
            return what.format(**_HINTS)
    if content[:4] == b"PK\x03\x04":
        return _archive(content)
    if content[0] == 0x80 and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, as PyTorch and scikit-learn save: export the model (torch.onnx, skl2onnx)"
    if PurePath(name).name == "saved_model.pb":
        return "a TensorFlow SavedModel: convert its folder (tf2onnx takes it with --saved-model)"
    if int.from_bytes(content[:8], "little") < len(content) and content[8:9] == b"{":
        return "weights alone, as safetensors: export the model that they belong to"
    return _text(content[:4096].lstrip().lower())


def _archive(content: bytes) -> str:
    """Say what a ZIP archive holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a damaged ZIP archive"
    if any(name.endswith("data.pkl") for name in names):
        return f"PyTorch's own format: {_HINTS['torch']}"
    if "model.weights.h5" in names:
        return f"Keras' own format: {_HINTS['keras']}"
    inside = [name for name in names if name.endswith(".onnx")]
    return f"a ZIP archive{f' with {inside[0]!r} in it' if inside else ''}: unpack it"


def _text(begin: bytes) -> str | None:
    """Say what a text is, by how it begins, in small letters."""
    if begin.startswith((b"<!doctype html", b"<html")):
        return "a web page: was the model downloaded, or the page that it is on?"
    if begin.startswith(b"<?xml") and b"<net" in begin:
        return "OpenVINO's format: give the .onnx file that it was made of"
    if begin.startswith(b"<") and b"ir_version" in begin:
        return "ONNX's text format: onnx.load reads it as format='onnxtxt', and onnx.save writes it"
    return "JSON, and no graph" if begin.startswith(b"{") else None
