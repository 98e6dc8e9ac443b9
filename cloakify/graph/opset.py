"""Bring a working copy to a recent opset, so that gradient rules see one form of each operator."""

from __future__ import annotations

import onnx
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.graph.group_scale import spread_group_scales
from cloakify.ort import one_line

# Reductions take their axes as an input (18), and GroupNormalization one scale a channel (21).
WORKING_OPSET = 21


def modernise(model: ModelProto) -> ModelProto:
    """Return ``model``, which may be changed, at :data:`WORKING_OPSET` or later.

    Raises
    ------
    ModelError
        onnx's converter has no way from the model's opset.
    """
    current = max((entry.version for entry in model.opset_import if not entry.domain), default=1)
    if current >= WORKING_OPSET:
        return model
    if 18 <= current < 21:
        spread_group_scales(model)
    try:
        return onnx.version_converter.convert_version(model, WORKING_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise ModelError(
            f"opset {current} can't be brought to {WORKING_OPSET}: {one_line(error)}"
        ) from error
