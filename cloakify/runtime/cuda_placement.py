"""Which nodes of a model would run on the CPU in a session on CUDA, told without a GPU.

ONNX Runtime places a node on CUDA where there is a kernel for it (:mod:`.cuda_kernels`), and takes
back what it deems faster on the CPU: arithmetic on shapes, and whatever reads nothing but that,
small constants and the model's inputs. Every other node on the CPU stands between two copies, of
what it reads and of what it makes, in each run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.lowering.data_dependent_shapes import passes_values
from cloakify.graph.lowering.functions import expand_functions
from cloakify.graph.model.dataflow import reached_from
from cloakify.graph.model.imported import infer_shapes
from cloakify.graph.model.weights import split_weights
from cloakify.onnxfile.walk import iter_graphs
from cloakify.runtime.cuda_kernels import KernelTable, kernel_table

# Elements up to which a constant counts as one that the CPU may as well hold.
_SMALL = 100

# What the CUDA provider's kernels leave in the host's memory, and which inputs they read there.
# From the kernels' registrations in ONNX Runtime's onnxruntime/core/providers/cuda.
_MADE_ON_HOST = ("SequenceLength", "Shape", "Size")
_READ_ON_HOST: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "GRU": (4,),
    "If": (0,),
    "LSTM": (4,),
    "Loop": (0, 1),
    "MatMulInteger": (2, 3),
    "NonMaxSuppression": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "RNN": (4,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
# Types that are never taken back to the CPU.
_NARROW = ("bfloat16", "float16", "float8", "float4")


@dataclass(frozen=True)
class Fallback:
    """A node that computes on the data and would run on the CPU.

    Attributes
    ----------
    op_type, node
        What it is, and its name or that of its first output.
    reason
        What the CUDA provider lacks, or why ONNX Runtime places it on the CPU nevertheless.
    """

    op_type: str
    node: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """Where a session on CUDA would run a model's nodes.

    Attributes
    ----------
    nodes
        How many the model has, functions written out where ONNX Runtime does.
    arithmetic
        How many of those on the CPU compute on shapes and constants alone.
    fallbacks
        The others on the CPU, in graph order.
    """

    nodes: int
    arithmetic: int
    fallbacks: tuple[Fallback, ...]

    def counts(self) -> list[tuple[str, str, int]]:
        """Return operator, reason and number of the fallbacks, most frequent first."""
        counter = Counter((entry.op_type, entry.reason) for entry in self.fallbacks)
        return [(op_type, reason, count) for (op_type, reason), count in counter.most_common()]


def cuda_placement(model: ModelProto) -> Placement:
    """Tell where a session on CUDA would run the nodes of a model; weights are not read.

    Raises
    ------
    ModelError
        The model contradicts itself.
    """
    table = kernel_table()
    skeleton, weights = split_weights(model)
    skeleton = _written_out(_with_types(skeleton, weights.values()), table)
    small = {tensor.name for tensor in weights.values() if _is_small(tensor)}
    for graph in iter_graphs(skeleton.graph):
        small.update(tensor.name for tensor in graph.initializer if _is_small(tensor))
        small.update(_take_constants(graph))
    data = [value.name for value in data_inputs(skeleton) if value.name not in weights]
    moving = reached_from(skeleton.graph.node, data, passes=passes_values).values
    facts = _Facts(table, _versions(skeleton), _types(skeleton), {*small, *data})
    total = arithmetic = 0
    fallbacks: list[Fallback] = []
    for graph in iter_graphs(skeleton.graph):
        total += len(graph.node)
        for node, reason in facts.on_host(graph.node):
            # What a branch computes on is taken for data: it may read any value outside.
            if graph is skeleton.graph and not moving.intersection(filter(None, node.output)):
                arithmetic += 1
            else:
                fallbacks.append(Fallback(node.op_type, node.name or node.output[0], reason))
    return Placement(total, arithmetic, tuple(fallbacks))


@dataclass(frozen=True)
class _Facts:
    """What places depend on.

    Attributes
    ----------
    table, versions, types
        The kernels, the opset version of each domain, and the element type of each value.
    harmless
        Values that may lie on either side: small constants, and the model's inputs.
    """

    table: KernelTable
    versions: Mapping[str, int]
    types: Mapping[str, str]
    harmless: Collection[str]

    def on_host(self, nodes: Iterable[NodeProto]) -> Iterator[tuple[NodeProto, str]]:
        """Yield the nodes of a graph that are placed on the CPU, and why each is.

        What is there for shapes is found as ``GetCpuPreferredNodes`` of ONNX Runtime's
        ``fallback_cpu_capability.cc`` finds it, which follows what shapes lead to.
        """
        on_host: set[str] = set()
        for node in nodes:
            missing = self.table.missing(node, self.versions.get(node.domain, 1), self.types)
            beside = any(name in on_host for name in node.input)
            moves = missing is None and beside and self._moves(node, on_host)
            if moves or (beside and missing) or (node.op_type in _MADE_ON_HOST and not node.domain):
                on_host.update(name for name in node.output if name)
            if missing is not None or moves:
                yield node, missing or "beside arithmetic on shapes"

    def _moves(self, node: NodeProto, on_host: Collection[str]) -> bool:
        """Tell whether ONNX Runtime would rather run a node on the CPU, where its inputs lie."""
        is_reduction = node.op_type.startswith("Reduce")
        read_there = (1,) if is_reduction else _READ_ON_HOST.get(node.op_type, ())
        for place, name in enumerate(node.input):
            if self.types.get(name, "").startswith(_NARROW):
                return False
            if name in self.harmless:
                continue
            if name not in on_host or place in read_there:
                return False
        return True


def _take_constants(graph: GraphProto) -> Iterator[str]:
    """Take the `Constant` nodes out of a graph, in place, and yield the outputs of small ones.

    To ONNX Runtime they are initializers.
    """
    kept = []
    for node in graph.node:
        # Written out, bodies have constants without a value: of attributes that are left out.
        if node.op_type != "Constant" or node.domain or len(node.attribute) != 1:
            kept.append(node)
            continue
        (value,) = node.attribute
        size = math.prod(value.t.dims) if value.HasField("t") else len(value.ints or value.floats)
        if size <= _SMALL:
            yield node.output[0]
    del graph.node[:]
    graph.node.extend(kept)


def _is_small(tensor: TensorProto) -> bool:
    return math.prod(tensor.dims) <= _SMALL


def _types(model: ModelProto) -> dict[str, str]:
    """Return the element types that a model writes down, as ONNX's text format calls them."""
    types: dict[str, int] = {}
    for graph in iter_graphs(model.graph):
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            types[value.name] = value.type.tensor_type.elem_type
    return {name: TensorProto.DataType.Name(kind).lower() for name, kind in types.items() if kind}


def _versions(model: ModelProto) -> dict[str, int]:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    standard = max(versions.get("", 0), versions.get("ai.onnx", 0))
    return versions | {"": standard, "ai.onnx": standard}


def _with_types(skeleton: ModelProto, weights: Iterable[TensorProto]) -> ModelProto:
    """Return a message with the types of its values; the weights' are told by inputs."""
    inner = ModelProto()
    inner.CopyFrom(skeleton)
    known = {value.name for value in inner.graph.input}
    for tensor in weights:
        if tensor.name not in known:
            inner.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    inner.ir_version = max(inner.ir_version, 10)
    return infer_shapes(inner)


def _written_out(model: ModelProto, table: KernelTable) -> ModelProto:
    """Return a model with the functions written out that no provider runs whole."""
    if model.functions:
        with boundary("its functions can't be written out"):
            model = onnx.inliner.inline_local_functions(model, convert_version=True)
        model = infer_shapes(model)
    opset = _versions(model)[""]

    def is_run_whole(domain: str, op_type: str) -> bool:
        node = NodeProto(op_type=op_type)
        return domain != "" or table.has_kernel(node, opset) or table.runs_function(node, opset)

    try:
        expanded = expand_functions(model, is_run_whole)
        return model if expanded is model else infer_shapes(expanded)
    except ModelError:
        # ONNX Runtime may do what onnx can't; as they stand they count as not on CUDA.
        return model
