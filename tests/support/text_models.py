"""A text classifier in ONNX text, the same in NumPy, and data for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

Ids = NDArray[np.int64]

WORDS, TYPES, WIDTH, HIDDEN, CLASSES, LENGTH = 50, 2, 8, 16, 3, 6

# Ids serve twice: they choose words, and 0 among them pads; the mask hides further places.
TEXT = f"""
<ir_version: 8, opset_import: ["" : 17]>
text (int64[N, L] token_type_ids, int64[N, L] input_ids, int64[N, L] attention_mask)
    => (float[N, {CLASSES}] logits)
{{
    words = Gather (table, input_ids)
    types = Gather (type_table, token_type_ids)
    embedded = Add (words, types)
    pad = Constant <value_int: int = 0> ()
    is_pad = Equal (input_ids, pad)
    not_pad = Not (is_pad)
    kept = Cast <to = 1> (not_pad)
    shown = Cast <to = 1> (attention_mask)
    both = Mul (kept, shown)
    last = Constant <value_ints: ints = [-1]> ()
    column = Unsqueeze (both, last)
    weighted = Mul (embedded, column)
    one = Constant <value_ints: ints = [1]> ()
    hidden = MatMul (weighted, inner)
    active = Tanh (hidden)
    features = ReduceSum <keepdims = 0> (active, one)
    logits = Gemm <transB = 1> (features, weight, bias)
}}"""


class TextModel:
    """The classifier with random weights.

    Attributes
    ----------
    model
        The message.
    weights
        By name.
    """

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        shapes = {
            "table": (WORDS, WIDTH),
            "type_table": (TYPES, WIDTH),
            "inner": (WIDTH, HIDDEN),
            "weight": (CLASSES, HIDDEN),
            "bias": (CLASSES,),
        }
        self.weights = {name: random.standard_normal(shape) for name, shape in shapes.items()}
        self.weights["bias"] *= 0.1
        self.model: ModelProto = onnx.parser.parse_model(TEXT)
        for name, values in self.weights.items():
            tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
            self.model.graph.initializer.append(tensor)

    def logits(self, words: NDArray[np.float64], ids: Ids, mask: Ids, types: Ids) -> NDArray:
        """Return the logits for embedded words [n, L, WIDTH], in double."""
        w = self.weights
        shown = ((ids != 0) & (mask != 0))[..., None]
        hidden = np.tanh(((words + w["type_table"][types]) * shown) @ w["inner"])
        return hidden.sum(axis=1) @ w["weight"].T + w["bias"]

    def save(self, folder: Path, samples: int = 200, seed: int = 1) -> tuple[Path, Path]:
        """Write the model, and data that it classifies rightly; return the paths of both."""
        random = np.random.default_rng(seed)
        ids = random.integers(0, WORDS, (samples, LENGTH))
        mask = (random.random(ids.shape) < 0.9).astype(np.int64)
        types = random.integers(0, TYPES, ids.shape)
        y = self.logits(self.weights["table"][ids], ids, mask, types).argmax(axis=1)
        model, data = folder / "text.onnx", folder / "text.npz"
        onnx.save(self.model, model)
        np.savez(data, x=ids, y=y, attention_mask=mask, token_type_ids=types)
        return model, data
