"""The boundary to onnx and onnx-graphsurgeon: whatever they raise becomes one line.

Neither has errors of its own for all that can be wrong with a message: beside those that are listed
they let Python's through, from wherever a field is not what they expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx.checker
import onnx.shape_inference
import onnx.version_converter
from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

from cloakify.errors import CloakifyError, ModelError
from cloakify.printable import one_line

LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    OnnxGraphSurgeonException,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
    # What their own code trips over, in C++ and in Python.
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def boundary(step: str) -> Iterator[None]:
    """Raise a ModelError that names the step in place of what a library raises within the block.

    Parameters
    ----------
    step
        What was tried, as in "its functions can't be written out".
    """
    try:
        yield
    except CloakifyError:
        raise
    except LIBRARY_ERRORS as error:
        raise ModelError(f"{step}: {one_line(error) or type(error).__name__}") from error
