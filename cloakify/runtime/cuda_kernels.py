"""Which operators ONNX Runtime's CUDA provider has kernels for: its own list, shipped as data.

The provider says so itself only where a GPU is. The table is ``cuda_kernels.tsv`` beside this file,
which names its source and that source's version; a test compares what follows from it with where
the installed ONNX Runtime really places nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from onnx import NodeProto

from cloakify.graph.model.rewrite import attribute
from cloakify.onnxfile.domains import domain_of
from cloakify.onnxfile.wellformed import schema_of

TABLE = "cuda_kernels.tsv"
RELEASE = "1.31"
"""The release of ONNX Runtime that the table was compared with."""


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes
    ----------
    first, last
        Opset versions; ``None`` where the list says no last one.
    types
        The types that each type variable, or each parameter, may have.
    inputs, outputs
        The type variable of each; ``None`` for the standard's operators, whose schema says so.
    """

    first: int
    last: int | None
    types: Mapping[str, frozenset[str]]
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None

    def serves(self, since: int) -> bool:
        """Tell whether it runs an operator that has its present form since an opset.

        One without a last version runs that of its first alone: nobody knew of later ones when it
        was written (``VerifyVersion`` in ONNX Runtime's ``kernel_registry.cc``).
        """
        return since == self.first or (self.last is not None and self.first <= since <= self.last)


@dataclass(frozen=True)
class KernelTable:
    """Kernels by domain and operator, and the functions that the CPU provider runs whole."""

    kernels: Mapping[tuple[str, str], tuple[Kernel, ...]]
    functions: Mapping[str, tuple[Kernel, ...]]

    def missing(self, node: NodeProto, opset: int, types: Mapping[str, str]) -> str | None:
        """Return why the CUDA provider does not take a node, or ``None`` where it does.

        Parameters
        ----------
        node
            The node.
        opset
            Version of its domain in the model.
        types
            Element types of values by name, as ONNX's text format calls them; a value that is not
            among them may have any.
        """
        domain = _domain(node)
        known = self.kernels.get((domain, node.op_type), ())
        if not known:
            return "no CUDA kernel"
        since = since_version(node, opset)
        serving = [kernel for kernel in known if kernel.serves(since)]
        if not serving:
            return f"no CUDA kernel for its form since opset {since}"
        refused = [next(_mismatches(kernel, node, since, types), None) for kernel in serving]
        if None not in refused:
            return f"no CUDA kernel for {refused[0]}"
        return _refused_for_attributes(node)

    def has_kernel(self, node: NodeProto, opset: int) -> bool:
        """Tell whether the CUDA provider has one for an operator, of whatever types."""
        known = self.kernels.get((_domain(node), node.op_type), ())
        return any(kernel.serves(since_version(node, opset)) for kernel in known)

    def runs_function(self, node: NodeProto, opset: int) -> bool:
        """Tell whether the CPU provider has a kernel for an operator with a body in the standard.

        It is not written out then, even where the CUDA provider has none.
        """
        kernels = self.functions.get(node.op_type, ())
        return any(kernel.serves(since_version(node, opset)) for kernel in kernels)


@cache
def kernel_table() -> KernelTable:
    """Return the table that the package ships."""
    kernels: dict[tuple[str, str], list[Kernel]] = {}
    functions: dict[str, list[Kernel]] = {}
    text = files("cloakify.runtime").joinpath(TABLE).read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        domain, operator, first, last, *rest = line.split("\t")
        versions = int(first), None if last == "-" else int(last)
        if domain == "cpu":
            functions.setdefault(operator, []).append(Kernel(*versions, {}))
            continue
        named = (entry.partition("=") for entry in rest[0].split(" "))
        types = {name: frozenset(kinds.split(",")) for name, _, kinds in named}
        sides = rest[1].split(">") if len(rest) > 1 else []
        variables = (tuple(side.split(" ")) for side in sides)
        kernels.setdefault((domain, operator), []).append(Kernel(*versions, types, *variables))
    return KernelTable(
        {key: tuple(each) for key, each in kernels.items()},
        {key: tuple(each) for key, each in functions.items()},
    )


def since_version(node: NodeProto, opset: int) -> int:
    """Return since which version of its domain an operator has the form it has in an opset.

    1 for what onnx does not know: operators of ONNX Runtime's own.
    """
    schema = schema_of(_domain(node), node.op_type, opset)
    return 1 if schema is None else int(schema.since_version)


def _domain(node: NodeProto) -> str:
    return domain_of(node)


def _mismatches(
    kernel: Kernel, node: NodeProto, since: int, types: Mapping[str, str]
) -> Iterator[str]:
    """Yield the element types that a kernel does not take; of each variable the first value tells.

    As ``MatchKernelDefTypes`` in ONNX Runtime's ``kernel_registry.cc``.
    """
    formal = list(_formal_parameters(kernel, node, since))
    for variable, allowed in kernel.types.items():
        for names, value in formal:
            if variable in names and value in types:
                if types[value] not in allowed:
                    yield types[value]
                break


def _formal_parameters(
    kernel: Kernel, node: NodeProto, since: int
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what each input's and output's type goes by, and the value in its place."""
    if kernel.inputs is not None and kernel.outputs is not None:
        pairs = [*zip(kernel.inputs, node.input, strict=False)]
        pairs += zip(kernel.outputs, node.output, strict=False)
        yield from (((variable,), value) for variable, value in pairs)
        return
    # onnx's stubs leave the parameters out.
    schema: Any = schema_of("", node.op_type, since)
    if schema is None:
        # Of an operator that ONNX Runtime has put into the standard's domain.
        yield from ((("T", "V"), value) for value in (*node.input, *node.output))
        return
    for parameters, values in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for parameter, value in zip(parameters, values, strict=False):
            if value:
                yield (parameter.type_str, parameter.name), value


def _refused_for_attributes(node: NodeProto) -> str | None:
    """Return what the CUDA provider does not take for its attributes, though it has a kernel.

    As ``CUDAExecutionProvider::GetCapability`` in ONNX Runtime's ``cuda_execution_provider.cc``.
    """
    if node.op_type == "ConvTranspose":
        pads = list(attribute(node, "pads", []))
        half = len(pads) // 2
        if pads[:half] != pads[half:] or attribute(node, "auto_pad") in (
            "SAME_UPPER",
            "SAME_LOWER",
        ):
            return "no CUDA kernel for asymmetric padding"
    if node.op_type in ("ArgMax", "ArgMin") and attribute(node, "select_last_index"):
        return "no CUDA kernel for the last of equal values"
    if node.op_type in _RECURRENT:
        return _refused_recurrence(node)
    return None


# The activations that cuDNN has.
_RECURRENT = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}


def _refused_recurrence(node: NodeProto) -> str | None:
    """Return what cuDNN's recurrent layers do not have."""
    usual = _RECURRENT[node.op_type]
    activations = [name.lower() for name in attribute(node, "activations", [])]
    if any(name != usual[place % len(usual)] for place, name in enumerate(activations)):
        return "no CUDA kernel for its activations"
    given = {entry.name for entry in node.attribute}
    if given & {"activation_alpha", "activation_beta", "clip"}:
        return "no CUDA kernel for its activations"
    peephole = node.op_type == "LSTM" and len(node.input) > 7 and node.input[7] != ""
    if (
        peephole
        or attribute(node, "input_forget")
        or (node.op_type == "GRU" and attribute(node, "linear_before_reset", 0) != 1)
    ):
        return "no CUDA kernel for its gates"
    return None
