"""An `.onnx` file on disk: open it, save it whole, name its content, compare two of them."""

from cloakify.onnxfile.atomic import atomic_write
from cloakify.onnxfile.claims import claimed
from cloakify.onnxfile.class_names import class_names, parse_names, readings
from cloakify.onnxfile.diff import Difference, compare_models
from cloakify.onnxfile.metadata import METADATA_PREFIX, read_metadata, write_metadata
from cloakify.onnxfile.model_file import (
    FLOATS,
    HALVES,
    OnnxFile,
    find_model_file,
    open_model,
    path_of,
)
from cloakify.onnxfile.places import check_places
from cloakify.onnxfile.save import check_apart, save_model
from cloakify.onnxfile.values import values_of

__all__ = [
    "FLOATS",
    "HALVES",
    "METADATA_PREFIX",
    "Difference",
    "OnnxFile",
    "atomic_write",
    "check_apart",
    "check_places",
    "claimed",
    "class_names",
    "compare_models",
    "find_model_file",
    "open_model",
    "parse_names",
    "path_of",
    "read_metadata",
    "readings",
    "save_model",
    "values_of",
    "write_metadata",
]
