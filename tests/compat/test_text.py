"""Text classifiers of transformers: the gradient at the embedded ids agrees with torch autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is the oracle here")

from cloakify.experiment.classifier import open_classifier  # noqa: E402
from cloakify.experiment.experiment import open_experiment  # noqa: E402
from cloakify.settings import AttackSetting  # noqa: E402
from tests.compat.support import oracle, transformers_text  # noqa: E402

pytestmark = pytest.mark.compat

SAMPLES = 4
EXPORT_ERRORS = (RuntimeError, TypeError, ValueError)


@pytest.mark.parametrize("exporter", ["TorchScript", "dynamo"])
@pytest.mark.parametrize("name", list(transformers_text.CONFIGURATIONS))
def test_transformers_text(
    name: str,
    exporter: oracle.Exporter,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("family", f"transformers text, {exporter}")
    record_property("model", name)
    model = transformers_text.make(name)
    ids, mask = transformers_text.samples(name, SAMPLES)
    path, data = tmp_path / "text.onnx", tmp_path / "text.npz"
    try:
        transformers_text.export(model, ids, mask, exporter, path)
    except EXPORT_ERRORS as error:
        pytest.skip(f"not exportable ({str(error).splitlines()[0]})")
    labels = np.arange(SAMPLES) % 5
    np.savez(data, x=ids, attention_mask=mask, y=labels)
    setting = AttackSetting(device="cpu", eps=0.1, batch_size=SAMPLES)
    experiment = open_experiment(
        open_classifier(path), data, setting, lambda stage, done, total: None
    )
    (batch,) = experiment.dataset.batches(batch_size=SAMPLES)
    found = experiment.target().evaluate(batch.x.astype(np.float32), labels)
    assert experiment.latent is not None
    packing = experiment.latent.packing
    words, exact = transformers_text.torch_gradient(
        copy.deepcopy(model).double(), ids, mask, labels
    )
    if words.shape[0] != SAMPLES:
        # XLNet turns ids to [length, samples].
        words, exact = words.swapaxes(0, 1), exact.swapaxes(0, 1)
    np.testing.assert_allclose(packing.tensor_of(batch.x), words, atol=1e-5)
    error = oracle.relative(packing.tensor_of(found.gradient), exact)
    record_property("exporter", exporter)
    record_property("error", f"{error.max():.1e}")
    assert (error < oracle.TOLERANCE).all(), error
