"""A model as ONNX Runtime's own optimiser leaves it, as a message again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.limits.stages import Stage
from cloakify.onnxfile.sizes import weights_size
from cloakify.ort import ORT_ERRORS
from cloakify.printable import one_line


def simplified(model: ModelProto) -> ModelProto:
    """Return a model with its constants folded, and scales and normalisations in its weights.

    These are the rewrites that hold for every device. Nothing is run.

    Parameters
    ----------
    model
        With its weights in it; two gigabytes at most.

    Raises
    ------
    ModelError
        ONNX Runtime refuses the model.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory(prefix="cloakify-") as folder:
        place = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(place)
        try:
            # Constants are computed, whatever they grow to.
            with Stage("simplifying it", weights_size(model)):
                whole = model.SerializeToString()
                ort.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise ModelError(f"ONNX Runtime can't simplify it: {one_line(error)}") from None
        return onnx.load(place)
