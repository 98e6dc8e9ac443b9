"""The cases: each a function of its kind, the seed and its number, so that it can be told again."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.fuzz.data_seeds import Files, data_seeds
from tests.fuzz.explosive import explosive_model
from tests.fuzz.mutate_bytes import mutate_bytes
from tests.fuzz.mutate_message import mutate_message
from tests.fuzz.seeds import Seed, seeds

COMMON = ["--labels", "model", "--device", "cpu", "--quiet", "--eps", "0.05"]


@dataclass(frozen=True)
class Case:
    """Files to write into a folder, and the commands to run there."""

    files: Files
    commands: list[list[str]]

    def write(self, folder: Path) -> None:
        """Write the files into a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def make_case(kind: str, seed: int, number: int) -> Case:
    """Return case ``number`` of a kind; see :data:`KINDS`."""
    return KINDS[kind](np.random.default_rng([seed, number]))


@cache
def _models() -> list[Callable[[], Seed]]:
    return [cache(make) for make in seeds().values()]


@cache
def _data() -> list[Callable[[], Files]]:
    return [cache(make) for make in data_seeds().values()]


def _message(random: np.random.Generator) -> Case:
    found = _models()
    seed, donor = (found[random.integers(len(found))]() for _ in range(2))
    return _of_model(seed, mutate_message(seed.message, donor.message, random), random)


def _bytes(random: np.random.Generator) -> Case:
    found = _models()
    seed = found[random.integers(len(found))]()
    return _of_model(seed, mutate_bytes(seed.message.SerializeToString(), random), random)


def _explosive(random: np.random.Generator) -> Case:
    return _of_model(*explosive_model(random), random)


def _damaged_data(random: np.random.Generator) -> Case:
    found = _data()
    files = dict(found[random.integers(len(found))]())
    own = sorted(name for name in files if not name.endswith(".onnx"))
    for name in random.choice(own, random.integers(1, min(4, len(own) + 1))).tolist():
        files[name] = mutate_bytes(files[name], random)
    first = next(iter(files)).partition("/")[0]
    files.setdefault("m.onnx", _reader())
    labels = ["--labels", "model"] if random.random() < 0.5 else []
    listed = [name for name in files if name.startswith("labels.")]
    labels = ["--labels", listed[0]] if listed else labels
    command = [
        "evaluate",
        "m.onnx",
        "--data",
        first,
        "--attack",
        "fgsm",
        "--device",
        "cpu",
    ]
    # Of the model's own answers all are right.
    accepting = ["--accept-accuracy"] * (labels != ["--labels", "model"])
    return Case(files, [[*command, "--quiet", *labels, *accepting]])


@cache
def _reader() -> bytes:
    """A model that takes what the data seeds hold."""
    return seeds(samples=False)["conv"]().message.SerializeToString()


def _of_model(seed: Seed, model: bytes, random: np.random.Generator) -> Case:
    packed = io.BytesIO()
    np.savez(packed, **seed.arrays)
    files = {
        "m.onnx": model,
        "seed.onnx": seed.message.SerializeToString(),
        "d.npz": packed.getvalue(),
        **seed.sidecars,
    }
    attack = ["square", "fgsm", "apgd", "pgd"][random.integers(4)]
    steps = ["--steps", "2"] * (attack in ("apgd", "pgd"))
    data = ["m.onnx", "--data", "d.npz", *COMMON]
    verbs = [
        ["evaluate", *data, "--attack", attack, *steps, "--queries", "4"],
        ["harden", *data, "-o", "h.onnx", "--evaluation-steps", "2", "--rounds", "1"],
        ["attack", *data, "-o", "a.npz", "--attack", "pgd", "--steps", "2"],
        ["verify", "m.onnx", "--against", "seed.onnx", "--device", "cpu"],
    ]
    return Case(files, [["inspect", "m.onnx"], verbs[random.integers(len(verbs))]])


KINDS: dict[str, Callable[[np.random.Generator], Case]] = {
    "message": _message,
    "bytes": _bytes,
    "data": _damaged_data,
    "explosive": _explosive,
}
