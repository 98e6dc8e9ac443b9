"""What must hold of any model before its parts are read: checked once, where a file is opened.

Protobuf only says that bytes are a message. That a Gemm has two inputs, that an axis is a number,
and that a tensor holds what its shape says is for the reader to see, and everything behind this
check relies on it. ONNX Runtime refuses what is refused here, too. (In which order values are made:
:mod:`~cloakify.onnxfile.order`.)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
)
from onnx.defs import OpSchema

from cloakify.errors import ModelError
from cloakify.onnxfile.domains import STANDARD, is_standard
from cloakify.onnxfile.sizes import packed_bits, raw_size
from cloakify.onnxfile.walk import iter_graphs, iter_tensors

# Nodes that a model may have once its functions are written out, unless it has as many in itself.
# ONNX Runtime writes them all out; functions that call others twice double at every step.
MOST_NODES = 100_000
# Functions that may call each other in a row.
MOST_CALLS = 100
# Larger than any version of an operator set.
NEWEST = 1 << 16
# Numbers that a sparse tensor may stand for, unless it holds a thousandth of them.
MOST_ZEROS = 1 << 26

_COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
# What ONNX Runtime has in opsets that the standard does not yet have it in.
_RUN_EARLY = frozenset({"LayerNormalization", "MeanVarianceNormalization", "ThresholdedRelu"})
_KINDS = AttributeProto.AttributeType
_ELEMENT_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def check_well_formed(model: ModelProto) -> None:
    """Refuse a model whose parts contradict the standard.

    Raises
    ------
    ModelError
        Says which node or tensor, and what is wrong with it.
    """
    for text in _names(model):
        # What protobuf can't decode it hands over as it stands.
        if not isinstance(text, str):
            raise ModelError(f"it has bytes for a name ({text[:40]!r})")
    for tensor in iter_tensors(model):
        _check_tensor(tensor)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for graph in iter_graphs(model.graph):
        for sparse in graph.sparse_initializer:
            _check_sparse(sparse)
        _check_values(graph)
        for node in graph.node:
            _check_node(node, versions)
            _check_no_reference(node)
    for function in model.functions:
        own = versions | {entry.domain: entry.version for entry in function.opset_import}
        for node in function.node:
            _check_node(node, own)
    _check_functions(model)


def _names(model: ModelProto) -> Iterator[Any]:
    """Yield all that is a text by the standard, but for those in attributes."""
    yield from (model.producer_name, model.producer_version, model.domain)
    for entry in (*model.opset_import, *(e for f in model.functions for e in f.opset_import)):
        yield entry.domain
    for prop in model.metadata_props:
        yield from (prop.key, prop.value)
    for tensor in iter_tensors(model):
        yield tensor.name
        for place in tensor.external_data:
            yield from (place.key, place.value)
    nodes = [node for graph in iter_graphs(model.graph) for node in graph.node]
    for graph in iter_graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for function in model.functions:
        yield from (function.domain, function.name, *function.input, *function.output)
        nodes += function.node
    for node in nodes:
        yield from (node.domain, node.op_type, node.name, *node.input, *node.output)
        yield from (part for held in node.attribute for part in (held.name, held.ref_attr_name))


def _check_values(graph: GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type.elem_type
        if kind and kind not in _ELEMENT_TYPES:
            raise ModelError(f"the value {value.name!r} is of the unknown type {kind}")


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.data_type not in _ELEMENT_TYPES:
        raise ModelError(f"the tensor {tensor.name!r} is of the unknown type {tensor.data_type}")
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"the tensor {tensor.name!r} has a negative size")
    if tensor.HasField("segment"):
        raise ModelError(
            f"the tensor {tensor.name!r} is a segment of one, which nothing puts together"
        )
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    if tensor.HasField("raw_data"):
        held, wanted, what = len(tensor.raw_data), raw_size(tensor), "bytes"
    elif packed_bits(tensor) is None:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        held, wanted, what = len(getattr(tensor, field)), math.prod(tensor.dims), "values"
        wanted *= 1 + (tensor.data_type in _COMPLEX)
    else:
        return
    if held != wanted:
        raise ModelError(
            f"the tensor {tensor.name!r} holds {held} {what} where its shape says {wanted}"
        )


def _check_sparse(tensor: SparseTensorProto) -> None:
    """Refuse a tensor that is next to nothing on disk and gigabytes once its zeros are there."""
    whole, held = math.prod(tensor.dims), math.prod(tensor.values.dims)
    if min(tensor.dims, default=0) < 0 or whole > max(MOST_ZEROS, 1000 * held):
        raise ModelError(
            f"the sparse tensor {tensor.values.name!r} stands for {whole:.3g} numbers, and holds "
            f"{held}"
        )


def _check_branch(node: NodeProto, branch: GraphProto) -> None:
    if len(branch.output) != len(node.output):
        raise ModelError(
            f"{_called(node)} has {len(node.output)} outputs, and its branch {branch.name!r} "
            f"{len(branch.output)}"
        )


def _check_node(node: NodeProto, versions: dict[str, int]) -> None:
    for attribute in node.attribute:
        _check_text(node, attribute)
        if node.op_type == "If" and attribute.HasField("g"):
            _check_branch(node, attribute.g)
    schema = _schema_for(node, versions)
    if schema is None:
        return
    _check_count(node, "input", node.input, schema.min_input, schema.max_input)
    _check_count(node, "output", node.output, schema.min_output, schema.max_output)
    for name, formal in zip(node.input, schema.inputs, strict=False):
        if not name and formal.option == OpSchema.FormalParameterOption.Single:
            raise ModelError(f"{_called(node)} lacks its input {formal.name!r}")
    there = set()
    for attribute in node.attribute:
        there.add(attribute.name)
        known = schema.attributes.get(attribute.name)
        if known is None or attribute.ref_attr_name:
            continue
        # The two enumerations are one; onnx's stubs leave the number out.
        kind: Any = known.type.value  # type: ignore[attr-defined]
        if attribute.type != kind:
            raise ModelError(
                f"{_called(node)} has an attribute {attribute.name!r} of the kind "
                f"{_KINDS.Name(attribute.type)}, not {_KINDS.Name(kind)}"
            )
    for name, known in schema.attributes.items():
        if known.required and name not in there:
            raise ModelError(f"{_called(node)} lacks its attribute {name!r}")
    if schema.name == "Constant" and len(there) != 1:
        # Any of its attributes would do, so that none is required.
        raise ModelError(f"{_called(node)} has {len(there)} values, and takes one")


def _check_no_reference(node: NodeProto) -> None:
    """Refuse a node outside of functions whose attribute is that of the function around it."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise ModelError(
                f"{_called(node)} has the attribute {attribute.name!r} of the function around it, "
                "and is in none"
            )


def _check_text(node: NodeProto, attribute: AttributeProto) -> None:
    """Refuse strings that are no text, which nothing that reads graphs can cope with."""
    try:
        for text in (attribute.s, *attribute.strings):
            text.decode()
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{node.op_type} {node.name!r} has bytes for text in {attribute.name!r}; "
            "is that an operator that the exporter left as it was?"
        ) from error


def _check_count(node: NodeProto, what: str, names: Sequence[str], least: int, most: int) -> None:
    if not least <= len(names) <= most:
        allowed = f"{least}" if least == most else f"{least} to {most}"
        raise ModelError(
            f"{_called(node)} has {len(names)} {what}s, and the operator takes {allowed}"
        )


def _schema_for(node: NodeProto, versions: dict[str, int]) -> OpSchema | None:
    """Return what the standard says of a node's operator, where it is one of the standard's."""
    if not is_standard(node):
        return schema_of(node.domain, node.op_type, versions.get(node.domain, 0))
    # Who names no version takes the newest: exporters of trees, and ONNX Runtime reads it so.
    version = max((versions[name] for name in STANDARD if name in versions), default=NEWEST)
    schema = schema_of("", node.op_type, version)
    later = schema_of("", node.op_type, NEWEST) if schema is None else None
    if later is not None and node.op_type not in _RUN_EARLY:
        raise ModelError(f"{_called(node)} is of a later opset than the file's, {version}")
    return schema or later


@cache
def schema_of(domain: str, op_type: str, version: int) -> OpSchema | None:
    """Return what the standard says of an operator; ``None`` where it says nothing.

    A file may say any version, and onnx has no type for all numbers.
    """
    try:
        return onnx.defs.get_schema(op_type, min(max(version, 0), NEWEST), domain)
    except onnx.defs.SchemaError:
        return None


def _check_functions(model: ModelProto) -> None:
    """Refuse functions that call themselves, that the model is huge without, or that never run."""
    functions = {(entry.domain, entry.name): entry for entry in model.functions}
    if functions:
        _check_names(functions)
    sizes: dict[tuple[str, str], int] = {}
    total = sum(
        _size((node.domain, node.op_type), functions, sizes, ())
        for graph in iter_graphs(model.graph)
        for node in graph.node
    )
    own = sum(len(graph.node) for graph in iter_graphs(model.graph))
    own += sum(len(function.node) for function in model.functions)
    if total > max(MOST_NODES, 2 * own):
        raise ModelError(f"it has {own} nodes, and {total:.3g} once its functions are written out")


def _check_names(functions: Collection[tuple[str, str]]) -> None:
    """Refuse functions in the place of which ONNX Runtime runs an operator of its own.

    By the standard the function counts, so that a model answers otherwise elsewhere, and gradients
    would be those of another model than the one that runs.
    """
    # It takes long to import, and few models have functions.
    from cloakify.ort import own_operators

    for domain, name in functions:
        if ("" if domain in STANDARD else domain, name) in own_operators():
            raise ModelError(
                f"its function {name!r} is called as an operator that ONNX Runtime runs in its "
                "place, and other runtimes may not: give the function another name or domain"
            )


def _size(
    key: tuple[str, str],
    functions: dict[tuple[str, str], FunctionProto],
    sizes: dict[tuple[str, str], int],
    callers: tuple[tuple[str, str], ...],
) -> int:
    """Return how many nodes an operator stands for."""
    if key not in functions:
        return 1
    if key in callers or len(callers) > MOST_CALLS:
        raise ModelError(f"its function {key[1]!r} calls itself, or others in an endless row")
    if key not in sizes:
        inner = (*callers, key)
        sizes[key] = sum(
            _size((node.domain, node.op_type), functions, sizes, inner)
            for node in functions[key].node
        )
    return sizes[key]


def _called(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}"
