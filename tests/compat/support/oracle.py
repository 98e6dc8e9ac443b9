"""Compare the gradient that ONNX Runtime computes with torch autograd's in double."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.attack_steps.build import GRADIENT, LABELS, GradientSpec, build_gradient
from cloakify.runtime.resolve import resolve_device
from cloakify.runtime.session import Session
from tests.compat.support.agreement import TOLERANCE, Array, relative

torch = pytest.importorskip("torch", reason="torch is the oracle here")

Exporter = Literal["TorchScript", "dynamo"]

# What PyTorch's exporters raise on models that they do not take, and what they have written at
# times: nodes that read what no node makes.
EXPORT_ERRORS = (RuntimeError, TypeError, onnx.checker.ValidationError)

MEANINGLESS = 0.5
# TorchScript's newest is 20; 18 is the first with col2im and antialiased resizing.
OPSET = 18
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))

torch.set_num_threads(THREADS)
# The fused encoder layer of inference has no ONNX form.
torch.backends.mha.set_fastpath_enabled(False)


@dataclass(frozen=True)
class Agreement:
    """How far a gradient is off, by sample; relative L2 errors.

    Attributes
    ----------
    error
        ONNX Runtime's float32 against torch's float64.
    torch_error
        Torch's own float32 against its float64.
    kinks
        Samples beyond the tolerance that lie at a kink (see :func:`at_kink`).
    wrong
        Samples beyond the tolerance that do not, or that are not finite.
    """

    error: tuple[float, ...]
    torch_error: tuple[float, ...]
    kinks: int
    wrong: int

    def __str__(self) -> str:
        text = f"{max(self.error):.1e}"
        return f"{text} (kink; torch itself {max(self.torch_error):.1e})" if self.kinks else text


def seed_of(name: str) -> int:
    """Return a seed that depends on the model alone, so that one can be run by itself."""
    return zlib.crc32(name.encode())


def randomise(model: Any, seed: int) -> Any:
    """Move what initialises to a constant, in place, and return the model in eval mode.

    Fresh models hold layer scales of 1e-6, biases of 0 and running statistics of 0 and 1: with
    these whole branches carry no gradient, and a wrong rule for them would not be seen.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            flat = parameter.numel() == 1 or parameter.max() == parameter.min()
            if parameter.is_floating_point() and (flat or parameter.abs().max() < 1e-4):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval()


def export(model: Any, x: Array, exporter: Exporter, folder: Path) -> onnx.ModelProto:
    """Export with a symbolic batch axis.

    Raises
    ------
    onnx.checker.ValidationError
        What the exporter wrote is no valid model.
    """
    path = folder / "model.onnx"
    options: dict[str, Any] = {"opset_version": OPSET, "input_names": ["x"]}
    if exporter == "dynamo":
        batch = {0: torch.export.Dim("batch")}
        options |= {"dynamo": True, "dynamic_shapes": (batch,), "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": {"x": {0: "batch"}}}
    export_quietly(model, (torch.tensor(x),), path, options)
    onnx.checker.check_model(str(path))
    return onnx.load(path)


def export_by_any(
    model: Any, x: Array, exporters: Sequence[Exporter], folder: Path
) -> tuple[Exporter, onnx.ModelProto]:
    """Export by the first exporter that can write a model; skip where there is none."""
    refused = ""
    for exporter in exporters:
        try:
            return exporter, export(model, x, exporter, folder)
        except EXPORT_ERRORS as error:
            refused = f"{exporter}: {str(error).splitlines()[0]}"
    pytest.skip(f"not exportable ({refused})")


def export_quietly(model: Any, inputs: tuple[Any, ...], path: Path, options: Any) -> None:
    """Run torch's exporter without what both of its kinds write to the console."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(model, inputs, path, **options)
    finally:
        logging.disable(level)


def gradient_session(model: onnx.ModelProto, x: Array, loss: str | None = "ce") -> Session:
    """Open cloakify's gradient graph at the model's head, for inputs of the shape of ``x``."""
    spec = GradientSpec(find_input(model).name, head_of(model).logits, loss=loss)
    built = build_gradient(model, {spec.input: x.shape}, spec)
    return Session(built, resolve_device("cpu"), threads=THREADS)


def head_of(model: onnx.ModelProto) -> Head:
    """Find the head; of several that are mixed any will do."""
    return find_head(model, any_mixed=True).head


def torch_gradient(model: Any, x: Array, labels: Array) -> Array:
    """Return autograd's, in the dtype of ``x``, which must be the model's."""
    point = torch.tensor(x, requires_grad=True)
    logits = model(point).reshape(len(x), -1)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")
    return torch.autograd.grad(loss, point)[0].numpy()


def compare(model: Any, exported: onnx.ModelProto, x: Array) -> Agreement:
    """Differentiate an export, and compare with autograd on the original."""
    labels = np.arange(len(x))
    session = gradient_session(exported, x)
    found = session.run({session.inputs[0]: x, LABELS: labels}, [GRADIENT])[GRADIENT]
    # Its weights would lie beside those of the model in double.
    del session
    single = torch_gradient(model, x, labels)
    exact_model = copy.deepcopy(model).double()
    exact = torch_gradient(exact_model, x.astype(np.float64), labels)
    error, own = relative(found, exact), relative(single, exact)
    beyond = ~(error < TOLERANCE)
    kinks = np.zeros(len(x), dtype=bool)
    if beyond.any():
        kinks = beyond & at_kink(error, own, exact_model, exact, x, labels)
    return Agreement(
        tuple(error), tuple(own), int(kinks.sum()), int(np.count_nonzero(beyond & ~kinks))
    )


def at_kink(
    error: Array, own: Array, model: Any, exact: Array, x: Array, labels: Array
) -> NDArray[np.bool_]:
    """Tell whether the samples' gradients jump by as much as ``error`` within rounding.

    At the kink of a ReLU or of a MaxPool float32 may take the other side. Then torch's float32 is
    as far off, or the exact gradient jumps that far when the input moves by a few roundings; a
    wrong rule shows in neither. Where hardly anything of the gradient is left, nothing is said.
    """
    jump = own.copy()
    random = np.random.default_rng(0)
    # The second: what rounding has become behind a hundred layers.
    for size in (*[1e-6] * 4, *[1e-5] * 2):
        moved = x.astype(np.float64) * (1 + size * random.standard_normal(x.shape))
        jump = np.maximum(jump, relative(torch_gradient(model, moved, labels), exact))
    return np.isfinite(error) & (error <= np.minimum(3 * jump, MEANINGLESS))
