"""A small classifier, and the same with planted defences that only mask gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

CLASSES, SIDE, HIDDEN = 4, 6, 32

# Of eight levels.
LEVELS = np.linspace(0, 1, 8)

# From the image x to what the first layer takes, from its ReLU r to features f, and to logits z.
PLAIN = {"input": "i = Identity (x)", "features": "f = Identity (r)", "head": "z = Gemm (f, W, b)"}

DEFENCES = {
    "quantised-input": {
        "input": "u = Mul (x, seven) v = Round (u) i = Div (v, seven)",
    },
    "saturated": {"head": "z = Gemm <alpha: float = 3000.0, beta: float = 3000.0> (f, W, b)"},
    "tiny": {"head": "z = Gemm <alpha: float = 0.000001, beta: float = 0.000001> (f, W, b)"},
    "softmax-inside": {
        "head": "y = Gemm (f, W, b) s = Mul (y, hundred) p = Softmax (s) z = Gemm (p, eye)"
    },
    # Nor one: nothing of the sample comes to the head.
    "frozen": {"features": "k = Mul (r, zero) f = Add (k, mean)"},
    # No defence: wherever a pixel is not below 0, the least likely class is the answer.
    "overruled": {
        "head": """y = Gemm (f, W, b) p = GlobalMaxPool (x) m = Flatten (p)
                   c = GreaterOrEqual (m, zero) n = Neg (y) z = Where (c, n, y)""",
    },
    # And here, on the darker samples.
    "dark": {
        "head": """y = Gemm (f, W, b) p = GlobalAveragePool (x) m = Flatten (p) c = Less (m, half)
                   n = Neg (y) z = Where (c, n, y)""",
    },
    # Nor here: any point off the grid of 8-bit images is answered with the least likely class.
    "off-grid": {
        "head": """y = Gemm (f, W, b) u = Mul (x, levels) v = Round (u) d = Sub (u, v) a = Abs (d)
                   p = GlobalMaxPool (a) m = Flatten (p) c = Greater (m, little) n = Neg (y)
                   z = Where (c, n, y)""",
    },
    # No defence either: two layers' scores make one answer.
    "two-heads": {
        "head": "y = Gemm (f, W, b) n = Neg (f) t = Gemm (n, W) s = Sub (y, t) z = Mul (half, s)",
    },
    # Some gradient goes around the steps.
    "stepped": {
        "features": "u = Mul (r, seven) v = Round (u) w = Div (v, seven) d = Mul (r, little) "
        "f = Add (w, d)",
    },
    "random-layer": {
        "features": "e = RandomNormalLike <scale: float = 0.3> (r) f = Add (r, e)",
    },
    "hard-threshold": {
        "features": "c = Greater (r, half) f = Where (c, one, zero)",
    },
    # Slopes of no more meaning than chance: of waves that are much shorter than the budget.
    "shattered": {
        "features": "k = Mul (r, steep) s = Sin (k) t = Mul (s, half) f = Add (r, t)",
    },
    "shattered-input": {
        "input": "k = Mul (x, steep) s = Sin (k) t = Mul (s, little) i = Add (x, t)",
    },
    "steep-steps": {
        "input": "u = Mul (x, seven) v = Floor (u) w = Sub (u, v) d = Sub (w, half) "
        "t = Mul (d, steep) m = Sigmoid (t) a = Add (v, m) i = Div (a, seven)",
    },
    "steep-features": {"features": "d = Sub (r, mean) t = Mul (d, steep) f = Sigmoid (t)"},
    # Of the features the eight largest alone (k-winners-take-all, arXiv 1905.10510).
    "largest": {
        "features": "v, k = TopK <axis = 1> (r, eight) m = ReduceMin (v, last) "
        "c = GreaterOrEqual (r, m) w = Cast <to = 1> (c) f = Mul (r, w)",
    },
    "mean-sparse": {
        "features": "d = Sub (r, mean) a = Abs (d) c = Greater (a, width) f = Where (c, r, mean)",
    },
}


# A zone around the features' mean within which they are the mean: d from it, `width` wide.
_ZONE = "d = Sub (r, mean) a = Abs (d)"
_OVER = f"{_ZONE} o = Sub (a, width)"
_TIMES = "k = Mul (d, m) f = Add (k, mean)"
# Features in steps of `width`.
_PARTS = "u = Div (r, width)"
DEAD_ZONES = {
    "zone-where": f"{_ZONE} c = Less (a, width) f = Where (c, mean, r)",
    "zone-product": f"{_ZONE} c = Greater (a, width) m = Cast <to = 1> (c) {_TIMES}",
    "zone-leak": f"{_ZONE} c = Less (a, width) v = Mul (d, least) e = Add (v, mean) "
    "f = Where (c, e, r)",
    "zone-shrink": "d = Sub (r, mean) u = Div (d, width) "
    "v = Shrink <lambd: float = 1.0, bias: float = 0.0> (u) k = Mul (v, width) f = Add (k, mean)",
    "zone-steep": f"{_OVER} t = Mul (o, steep) m = Sigmoid (t) {_TIMES}",
    "zone-clip": f"{_OVER} t = Mul (o, steep) m = Clip (t, zero, one) {_TIMES}",
    "zone-sign": f"{_OVER} t = Sign (o) m = Relu (t) {_TIMES}",
    "zone-whole": f"{_PARTS} v = Cast <to = 6> (u) e = Cast <to = 1> (v) f = Mul (e, width)",
    "zone-floor": f"{_PARTS} v = Floor (u) f = Mul (v, width)",
    "zone-rest": f"{_PARTS} v = Mod <fmod = 1> (u, one) e = Sub (u, v) f = Mul (e, width)",
}
DEFENCES |= {name: {"features": text} for name, text in DEAD_ZONES.items()}

# Pixels in eight levels, as `quantised-input` has them, by way of codes, tables and distances.
_APART = "u = Unsqueeze (x, last) e = Sub (u, grid)"
_WHOLE = "u = Mul (x, seven) v = Round (u) k = Cast <to = 7> (v)"
CODES = {
    "thermometer": "u = Unsqueeze (x, last) c = GreaterOrEqual (u, marks) v = Cast <to = 1> (c) "
    "i = ReduceMean <keepdims = 0> (v, last)",
    "thermometer-weighed": "u = Unsqueeze (x, last) c = GreaterOrEqual (u, marks) "
    "v = Cast <to = 1> (c) e = MatMul (v, seventh) i = Squeeze (e, last)",
    "thermometer-channels": "c = GreaterOrEqual (x, high) v = Cast <to = 1> (c) "
    "i = ReduceMean <keepdims = 1> (v, first)",
    "table": f"{_WHOLE} i = Gather (grid, k)",
    "table-of-rows": f"{_WHOLE} e = Gather (rows, k) m = MatMul (e, back) i = Squeeze (m, last)",
    "one-hot": f"{_WHOLE} e = OneHot <axis = -1> (k, eight, ends) m = MatMul (e, column) "
    "i = Squeeze (m, last)",
    "nearest-hard": f"{_APART} s = Mul (e, e) n = Neg (s) w = Hardmax <axis = -1> (n) "
    "m = MatMul (w, column) i = Squeeze (m, last)",
    "nearest-found": f"{_APART} s = Abs (e) k = ArgMin <axis = -1, keepdims = 0> (s) "
    "i = Gather (grid, k)",
}
DEFENCES |= {name: {"input": text} for name, text in CODES.items()}


@dataclass(frozen=True)
class Planted:
    """Data in an .npz file, and the weights of a model for it.

    ``mean`` and ``width`` are those of the features: where a feature is nearer to its mean than
    that, MeanSparse (arXiv 2406.05927) puts the mean in its place.
    """

    data: Path
    folder: Path
    hidden: np.ndarray
    bias: np.ndarray
    head: np.ndarray
    mean: np.ndarray
    width: np.ndarray

    def model(self, defence: str | None = None) -> Path:
        """Write the model, with one of ``DEFENCES`` or as it is."""
        parts = PLAIN | (DEFENCES[defence] if defence else {})
        text = f"""
            <ir_version: 8, opset_import: ["" : 18]>
            f (float[N, 1, {SIDE}, {SIDE}] x) => (float[N, {CLASSES}] z)
            <float seven = {{7.0}}, float one = {{1.0}}, float zero = {{0.0}}, float half = {{0.5}},
             float hundred = {{100.0}}, float levels = {{255.0}}, float little = {{0.01}},
             float least = {{0.0001}}, float steep = {{3000.0}}, int64[1] last = {{-1}},
             int64[1] first = {{1}}, int64[1] eight = {{8}}, float[2] ends = {{0.0, 1.0}}>
            {{
              {parts["input"]}
              g = Flatten (i)
              h = Gemm (g, P, q)
              r = Relu (h)
              {parts["features"]}
              {parts["head"]}
            }}
        """
        model = onnx.parser.parse_model(text)
        constants = {
            "P": self.hidden,
            "q": self.bias,
            "W": self.head[:-1],
            "b": self.head[-1],
            "eye": np.eye(CLASSES),
            "grid": LEVELS,
            "column": LEVELS[:, None],
            "marks": LEVELS[1:] - 1 / 14,
            "high": LEVELS[1:, None, None] - 1 / 14,
            "seventh": np.full((7, 1), 1 / 7),
            "rows": LEVELS[:, None] * [1.0, -2.0, 2.0],
            "back": np.array([[1.0], [-2.0], [2.0]]) / 9,
            "mean": self.mean,
            "width": self.width,
        }
        used = {name for node in model.graph.node for name in node.input}
        for name, values in constants.items():
            if name in used:
                array = np.asarray(values, np.float32)
                model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        path = self.folder / f"{defence or 'plain'}.onnx"
        onnx.save(model, path)
        return path


def plant(folder: Path, n: int = 96) -> Planted:
    """Make data around one prototype a class, and fit the head to random features."""
    rng = np.random.default_rng(7)
    prototypes = rng.uniform(0.35, 0.65, (CLASSES, SIDE * SIDE))
    labels = np.arange(n) % CLASSES
    x = np.clip(prototypes[labels] + rng.normal(0, 0.05, (n, SIDE * SIDE)), 0, 1)
    x = np.round(x * 255) / 255
    hidden = rng.normal(0, 1, (SIDE * SIDE, HIDDEN))
    bias = -(0.5 * hidden.sum(0)) + 0.3
    features = np.maximum(x @ hidden + bias, 0)
    design = np.concatenate([features, np.ones((n, 1))], axis=1)
    wanted = 8 * np.eye(CLASSES)[labels]
    head = np.linalg.solve(design.T @ design + 0.1 * np.eye(HIDDEN + 1), design.T @ wanted)
    data = folder / "test.npz"
    images = x.reshape(n, 1, SIDE, SIDE).astype(np.float32)
    np.savez(data, x=images, y=labels.astype(np.int64))
    return Planted(data, folder, hidden, bias, head, features.mean(0), 1.5 * features.std(0))
