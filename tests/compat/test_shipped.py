"""Models that other projects ship: each is hardened and proven, judged, or refused truly.

    SHIPPED_MODELS=DIR pytest -m compat tests/compat/test_shipped.py

downloads them (into DIR, where they stay) from where they are published; what can't be had is
skipped with the reason. Samples are random and labelled by the model: what is tried is whether a
model is told for what it is, and whether all verbs do with it what they say.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from cloakify.cli.main import run
from tests.compat.support.shipped import KEPT, MODELS, NotHad, Shipped, fetch

pytestmark = pytest.mark.compat

SAMPLES = 24
# Of sizes that are left open where nothing is said of them.
OPEN, OPEN_SIDE = 16, 32
TYPES = {"tensor(float16)": np.float16, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get(KEPT)
    return Path(kept) if kept else tmp_path_factory.mktemp("shipped")


def write_samples(model: Shipped, path: Path, place: Path) -> None:
    """Write random samples of the shape that a model takes: in [0, 1], or small whole numbers."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    generator, sizes = np.random.default_rng(0), list(model.sizes)
    arrays = {}
    for value in session.get_inputs():
        usual = OPEN_SIDE if len(value.shape) == 4 else OPEN
        shape = [SAMPLES]
        for size in value.shape[1:]:
            known = isinstance(size, int) and size > 0
            shape.append(size if known else sizes.pop(0) if sizes else usual)
        if "float" in value.type:
            drawn = generator.random(shape, np.float32)
        else:
            drawn = generator.integers(0, 20, shape)
        arrays[value.name] = drawn.astype(TYPES.get(value.type, drawn.dtype))
    name = "x" if len(arrays) == 1 else next(iter(arrays))
    np.savez(place, **{name: arrays.pop(next(iter(arrays)))}, **arrays)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_told_for_what_it_is(model, downloads, tmp_path, capsys, record_property):
    record_property("family", "shipped by other projects")
    record_property("model", model.name)
    record_property("exporter", model.origin.split()[0])
    try:
        path = fetch(model, downloads)
    except NotHad as reason:
        pytest.skip(str(reason))
    record_property("error", f"{model.outcome}, {path.stat().st_size / 1e6:.2g} MB")
    data, out = tmp_path / "data.npz", tmp_path / "hardened.onnx"
    write_samples(model, path, data)
    given = ["--data", data, "--labels", "model", "--device", "cpu", "--eps", "0.02"]
    given += ["--box", "none", "--effort", "quick", "--quiet"]

    def ran(verb: str, *words: object) -> tuple[int, str]:
        code = run([verb, str(path), *map(str, words)])
        return code, "".join(capsys.readouterr())

    own = list(model.options)
    attack = [] if "--attack" in own else ["--attack", "fgsm", "--queries", "20"]
    judged, said = ran("evaluate", *given, *own, *attack)
    assert judged == (3 if model.outcome == "refused" else 0), said
    refused = said
    mask = ["--mask-ratio", "0.2", "--score", "deepcloak", "-o", out]
    words = own[: own.index("--attack")] if "--attack" in own else own
    hardened, said = ran("harden", *given, *words, *mask)
    if model.outcome == "hardened":
        assert hardened == 0, said
        assert run(["verify", str(out), "--against", str(path)]) == 0, capsys.readouterr()
        return
    assert hardened == 3, said
    assert not out.exists()
    assert (model.unmasked or model.says) in said, said
    assert model.outcome == "judged" or model.says in refused, refused
