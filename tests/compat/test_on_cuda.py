"""Of the gradient graphs of exported architectures, nothing between input and logits and back is
left to the CPU by a session on CUDA.

``pytest -m compat tests/compat/test_on_cuda.py``; it takes about an hour on two cores, of which
nearly all is exporting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch exports them")

from cloakify.graph.analysis.inputs import find_input  # noqa: E402
from cloakify.graph.attack_steps.build import GradientSpec, build_gradient  # noqa: E402
from cloakify.runtime.cuda_placement import cuda_placement  # noqa: E402
from tests.compat.support import (  # noqa: E402
    oracle,
    timm_models,
    torchvision_models,
    transformers_models,
)
from tests.compat.test_architectures import (  # noqa: E402
    Record,
    listed,
    skip_without_memory,
)

pytestmark = pytest.mark.compat


def check(
    model: Any, size: int, exporters: list[oracle.Exporter], folder: Path, note: Record
) -> None:
    """Build the iteration of Auto-PGD, and see that CUDA runs all of it."""
    x = np.zeros((2, 3, size, size), np.float32)
    exporter, exported = oracle.export_by_any(model, x, exporters, folder)
    del model
    spec = GradientSpec(find_input(exported).name, oracle.head_of(exported).logits, step="apgd")
    built = cuda_placement(build_gradient(exported, {spec.input: x.shape}, spec))
    shipped = cuda_placement(exported)
    note("exporter", exporter)
    note("error", f"{built.nodes} nodes")
    assert built.fallbacks == (), built.counts()
    assert shipped.fallbacks == (), shipped.counts()


@pytest.mark.parametrize("name", listed(torchvision_models.names))
def test_torchvision(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "torchvision on CUDA")
    record_property("model", name)
    skip_without_memory(torchvision_models.parameters(name))
    check(*torchvision_models.make(name), ["TorchScript", "dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("name", torchvision_models.BY_DYNAMO)
def test_torchvision_by_dynamo(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "torchvision by dynamo on CUDA")
    record_property("model", name)
    check(*torchvision_models.make(name), ["dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("name", listed(timm_models.families))
def test_timm(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "timm on CUDA")
    record_property("model", name)
    check(*timm_models.make(name), ["TorchScript", "dynamo"], tmp_path, record_property)


@pytest.mark.parametrize("name", transformers_models.CONFIGURATIONS)
def test_transformers(name: str, tmp_path: Path, record_property: Record) -> None:
    record_property("family", "transformers on CUDA")
    record_property("model", name)
    check(*transformers_models.make(name), ["TorchScript", "dynamo"], tmp_path, record_property)
