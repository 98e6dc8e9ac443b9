"""Run a small model, or part of one, once: while graphs are rewritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from cloakify.errors import ModelError
from cloakify.ort import ORT_ERRORS
from cloakify.printable import one_line


def run_once(model: ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model on the CPU as it stands, with no optimisation, and return all its outputs.

    Raises
    ------
    ModelError
        ONNX Runtime can't.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results: list[np.ndarray] = session.run(None, dict(feeds))
    except ORT_ERRORS as error:
        raise ModelError(f"ONNX Runtime can't run the model: {one_line(error)}") from error
    return results
