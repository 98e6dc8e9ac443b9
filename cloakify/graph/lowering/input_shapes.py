"""Give the inputs of a working copy the shapes that it is made for."""

from __future__ import annotations

from cloakify.errors import ModelError
from cloakify.graph.lowering.state import Lowering
from cloakify.printable import shape_text


def fix_input_shapes(lowering: Lowering) -> bool:
    """Declare the shapes of the data inputs, and forget those of the outputs.

    Raises
    ------
    ModelError
        They contradict what the model declares.
    """
    for value in lowering.model.graph.input:
        if value.name not in lowering.inputs:
            continue
        dims = value.type.tensor_type.shape.dim
        wanted = lowering.inputs[value.name]
        declared = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        if len(wanted) != len(dims) or any(
            known and known != size for known, size in zip(declared, wanted, strict=True)
        ):
            raise ModelError(
                f"input {value.name!r} takes shape {shape_text(declared)}, not {shape_text(wanted)}"
            )
        for dim, size in zip(dims, wanted, strict=True):
            dim.dim_value = size
    for value in lowering.model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return True
