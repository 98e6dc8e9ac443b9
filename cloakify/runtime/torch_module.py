"""An ONNX classifier as a torch module whose forward and backward both run in ONNX Runtime.

With it, libraries that attack torch modules attack the shipped graph, with nothing converted.
Needs the extra ``torch``; no other file of the package imports torch.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import ModelError, UsageError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.onnxfile import open_model
from cloakify.printable import shape_text
from cloakify.runtime.differentiable import DifferentiableModel, Tape
from cloakify.runtime.resolve import resolve_device

try:
    import torch
except ImportError as error:
    raise UsageError("torch is not installed (pip install 'cloakify[torch]')") from error


class OnnxModule(torch.nn.Module):
    """An ONNX classifier as a torch module: samples in, logits out, with a gradient.

    Without a gradient being asked for, the logits are those of the shipped graph. With one, both
    directions run in the working copy that is differentiated, whose logits are the same but for
    rounding (the copy computes in 32 bits where the graph does in 16). The logits are taken before
    any Softmax.

    Parameters
    ----------
    model
        Path of an ONNX file, or a message with its weights in it.
    device
        Where ONNX Runtime runs: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Tensors may lie on any
        torch device; they are copied through the host where it is another one.
    head
        Name of the head, where it is not unique.
    batch_size
        At most this many samples go into one run, larger batches are cut up; what suits their size
        when left out. On the CPU each core has a run of its own.
    threads
        How many cores to use on the CPU; all when left out.

    Attributes
    ----------
    input, head, scores
        The input, the head, if there is one, and the class scores. One logit z counts as the two
        logits 0 and z; independent labels have one each.
    anchor
        A parameter of no use but to show libraries a device and a dtype; it needs no gradient.

    Raises
    ------
    ModelError
        The model can't be read, has no scores, or takes no floating input.
    DeviceError
        The device can't be had.

    Notes
    -----
    Gradients with respect to the weights do not exist, nor do second derivatives.
    ``train()`` changes nothing: the graph is what was shipped.

    Examples
    --------
    Any library for torch attacks the file as if it were a torch model::

        import torch, torchattacks
        from cloakify.runtime.torch_module import OnnxModule

        model = OnnxModule("sample_models/fashion_pooled.onnx")
        attack = torchattacks.PGD(model, eps=8 / 255, alpha=2 / 255, steps=10)
        attacked = attack(images, labels)
        with torch.no_grad():
            accuracy = (model(attacked).argmax(1) == labels).float().mean()
    """

    def __init__(
        self,
        model: ModelProto | str | os.PathLike[str],
        device: str = "auto",
        *,
        head: str | None = None,
        batch_size: int | None = None,
        threads: int = 0,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {batch_size}")
        if threads < 0:
            raise UsageError(f"threads must be at least 0 (all cores), not {threads}")
        message = model if isinstance(model, ModelProto) else open_model(model).load_weights()
        self.input = find_input(message)
        search = find_classifier(message, Wanted(head), needs_head=False)
        self.head, self.scores = search.head, search.scores
        if self.input.dtype.kind != "f":
            raise ModelError(
                f"input {self.input.name!r} takes {self.input.dtype}, which torch has no gradient "
                "for; cut the graph behind its cast to float"
            )
        self._engine = DifferentiableModel(
            with_class_scores(message, search),
            self.input,
            self.scores,
            resolve_device(device),
            batch_size=batch_size,
            threads=threads,
        )
        dtype = torch.float64 if self.input.dtype == np.float64 else torch.float32
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=dtype), requires_grad=False)
        self.eval()

    @property
    def num_classes(self) -> int:
        """C."""
        return self.scores.num_classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, C] of samples [N, …], on the device of ``x``.

        Raises
        ------
        DataError
            The samples do not have the shape that the model takes.
        UnsupportedOperatorError
            A gradient was asked for and an operator has no rule.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            logits: torch.Tensor = _Logits.apply(x, self._engine)  # type: ignore[no-untyped-call]
            return logits
        return torch.from_numpy(self._engine.logits(_array(x))).to(x.device)

    def extra_repr(self) -> str:
        """Show input and head."""
        return (
            f"{self.input.name} {shape_text(self.input.shape)}, {self.head or self.scores.shipped}"
        )


class _Logits(torch.autograd.Function):
    """x -> logits."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, engine: DifferentiableModel) -> torch.Tensor:
        logits, tape = engine.forward(_array(x))
        ctx.engine, ctx.tape, ctx.dtype = engine, tape, x.dtype
        return torch.from_numpy(logits).to(x.device)

    @staticmethod
    def backward(ctx: Any, logits_gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = _InputGradient.apply(  # type: ignore[no-untyped-call]
            logits_gradient, ctx.engine, ctx.tape
        )
        return gradient.to(ctx.dtype), None


class _InputGradient(torch.autograd.Function):
    """∂loss/∂logits -> ∂loss/∂x; a function of its own, so that a second derivative is refused."""

    @staticmethod
    def forward(
        ctx: Any, logits_gradient: torch.Tensor, engine: DifferentiableModel, tape: Tape
    ) -> torch.Tensor:
        gradient = engine.backward(tape, _array(logits_gradient))
        return torch.from_numpy(gradient).to(logits_gradient.device)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> None:
        raise UsageError("OnnxModule has no second derivative; use an attack of first order")


def _array(tensor: torch.Tensor) -> NDArray[np.generic]:
    return tensor.detach().cpu().contiguous().numpy()
