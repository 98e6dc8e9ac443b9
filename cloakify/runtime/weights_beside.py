"""Hand weights to ONNX Runtime beside the message: those that are mapped, or that it can't hold.

Mapped ones are used where they are, by all sessions; protobuf's limit of 2 GiB is for others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from cloakify.graph.model.dataflow import values_read
from cloakify.graph.model.weights import is_large, split_weights
from cloakify.onnxfile import values_of
from cloakify.onnxfile.laid_aside import MESSAGE_LIMIT
from cloakify.onnxfile.mapped import is_mapped, is_plain
from cloakify.onnxfile.sidecars import Place, place_of, set_place
from cloakify.onnxfile.sizes import raw_size

# Where the runtime looks for the files that a model in memory names.
FOLDER = "session.model_external_initializers_file_folder_path"

# Bytes of weights that protobuf can put into one message together with the graph; of more, a model
# is handed over apart from them.
MOST_WITHIN = MESSAGE_LIMIT - (1 << 26)

Values = dict[str, ort.OrtValue]


def hand_over(model: ModelProto, options: ort.SessionOptions) -> tuple[bytes, Values]:
    """Return a message to open with these options, and values to keep as long as the session.

    The model itself is not changed. What is not mapped is copied once, and by the runtime again.
    """
    apart = sum(tensor.ByteSize() for tensor in model.graph.initializer) > MOST_WITHIN

    def is_apart(tensor: TensorProto) -> bool:
        return is_mapped(tensor) or (apart and is_large(tensor) and is_plain(tensor))

    skeleton, weights = split_weights(model, is_apart)
    if not weights:
        return model.SerializeToString(), {}
    read = {name for node in model.graph.node for name in values_read(node)}
    read.update(value.name for value in model.graph.output)
    values: Values = {}
    copied: Values = {}
    for name, tensor in weights.items():
        # The runtime drops what nobody reads, and then does not find it.
        if name not in read:
            continue
        values[name] = _value(tensor)
        if is_mapped(tensor):
            place = Path(place_of(tensor).location)
            skeleton.graph.initializer.append(_named(tensor, str(place.relative_to(place.anchor))))
            options.add_initializer(name, values[name])
        else:
            skeleton.graph.initializer.append(_named(tensor, "in-memory"))
            copied[name] = values[name]
    anchors = {Path(place_of(weights[name]).location).anchor for name in values.keys() - copied}
    if anchors:
        # One for all: said twice, the runtime prints a warning.
        options.add_session_config_entry(FOLDER, anchors.pop())
    if copied:
        options.add_external_initializers(list(copied), list(copied.values()))
    return skeleton.SerializeToString(), values


def _value(tensor: TensorProto) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values_of(tensor)))


def _named(tensor: TensorProto, location: str) -> TensorProto:
    """Describe a tensor whose bytes come from elsewhere; the runtime wants a place, unread."""
    reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    offset = place_of(tensor).offset if is_mapped(tensor) else 0
    set_place(reference, Place(location, offset, raw_size(tensor)))
    return reference
