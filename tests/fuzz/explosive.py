"""Small models that ask for much: memory, time, or both, by every operator that can.

Each has a *bomb*, a few statements that make the scalar ``r`` of sizes up to a chosen one, and a
place for it: of constants alone, of the samples, behind the scores, in a branch, a loop or a
function.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser

from tests.fuzz.seeds import Seed

SIZES = [1000, 100_000, 1 << 20, 1 << 24, 1 << 27, 1 << 29, 2_000_000_000, 1 << 33, 1 << 40]
SIZES += [(1 << 62)]

# Statements that make ``r``, a scalar, of the scalar ``u`` and the size {S}.
BOMBS = {
    "ConstantOfShape": "c = ConstantOfShape (size) r = ReduceSum <keepdims = 0> (c)",
    "Expand": "c = Expand (u, size) r = ReduceMax <keepdims = 0> (c)",
    "Tile": "v = Reshape (u, one) c = Tile (v, size) r = ReduceMax <keepdims = 0> (c)",
    "Range": "z = CastLike (zero, u) d = CastLike (unit, u) s = Cast <to = 1> (count) "
    "c = Range (z, s, d) m = Mul (c, u) r = ReduceMax <keepdims = 0> (m)",
    "Pad": "v = Reshape (u, one) p = Concat <axis = 0> (none, size) c = Pad (v, p) "
    "r = ReduceMax <keepdims = 0> (c)",
    "Resize": "v = Reshape (u, three) sc = Concat <axis = 0> (one, one, size) "
    'c = Resize <mode = "linear"> (v, , , sc) r = ReduceMax <keepdims = 0> (c)',
    "OneHot": "i = Cast <to = 7> (u) v = Reshape (i, one) vals = Concat <axis = 0> (fnone, fone) "
    "c = OneHot (v, count, vals) r = ReduceMax <keepdims = 0> (c)",
    "outer": "v = Reshape (u, one) c = Expand (v, root) a = Unsqueeze (c, axis0) "
    "b = Unsqueeze (c, axis1) m = MatMul (b, a) r = ReduceMax <keepdims = 0> (m)",
    "broadcast": "v = Reshape (u, one) c = Expand (v, root) a = Unsqueeze (c, axis0) "
    "b = Unsqueeze (c, axis1) m = Add (a, b) r = ReduceMax <keepdims = 0> (m)",
    "product": "v = Reshape (u, two) sq = Concat <axis = 0> (root, root) c = Expand (v, sq) "
    "m = MatMul (c, c) r = ReduceMax <keepdims = 0> (m)",
    "Einsum": "v = Reshape (u, one) c = Expand (v, root) "
    'm = Einsum <equation = "a,b,c->abc"> (c, c, c) r = ReduceMax <keepdims = 0> (m)',
    "EyeLike": "v = Reshape (u, two) sq = Concat <axis = 0> (root, root) c = Expand (v, sq) "
    "m = EyeLike (c) r = ReduceMax <keepdims = 0> (m)",
    "Gather": "v = Reshape (u, one) i = ConstantOfShape <value = int64[1] {0}> (size) "
    "c = Gather (v, i) r = ReduceMax <keepdims = 0> (c)",
    "HannWindow": "c = HannWindow (count) m = Mul (c, u) r = ReduceMax <keepdims = 0> (m)",
    "Scan": "v = Reshape (u, one) c = Expand (v, size) e, all = Scan <num_scan_inputs = 1, "
    "body = step (float st, float it) => (float nx, float ou) { nx = Add (st, it) "
    "ou = Identity (nx) }> (u, c) r = ReduceMax <keepdims = 0> (all)",
    "Loop": "r = Loop (count, yes, u) <body = step (int64 i, bool go, float st) => "
    "(bool on, float nx) { on = Identity (go) nx = Sigmoid (st) }>",
    "collect": "e, all = Loop (count, yes, u) <body = step (int64 i, bool go, float st) => "
    "(bool on, float nx, float ou) { on = Identity (go) nx = Sigmoid (st) ou = Identity (nx) }> "
    "r = ReduceMax <keepdims = 0> (all)",
    "grow": "v = Reshape (u, one) e = Loop (depth, yes, v) <body = step (int64 i, bool go, "
    "float[G] st) => (bool on, float[H] nx) { on = Identity (go) "
    "nx = Concat <axis = 0> (st, st) }> r = ReduceMax <keepdims = 0> (e)",
    "nested": "r = Loop (root0, yes, u) <body = outer (int64 i, bool go, float st) => (bool on, "
    "float nx) { on = Identity (go) nx = Loop (root0, yes, st) <body = inner (int64 j, bool g2, "
    "float s2) => (bool o2, float n2) { o2 = Identity (g2) n2 = Sin (s2) }> }>",
    "sequence": "q = SequenceConstruct (u) e = Loop (count, yes, q) <body = step (int64 i, "
    "bool go, seq(float) st) => (bool on, seq(float) nx) { on = Identity (go) "
    "nx = SequenceInsert (st, u) }> t = ConcatFromSequence <axis = 0, new_axis = 1> (e) "
    "r = ReduceMax <keepdims = 0> (t)",
    "ConvTranspose": "v = Reshape (u, three) p = Expand (v, three2) k = Reshape (u, three) "
    "c = ConvTranspose <strides = [{A}]> (p, k) r = ReduceMax <keepdims = 0> (c)",
    "Multinomial": "v = Reshape (u, two) c = Multinomial <sample_size = {A}> (v) "
    "fl = Cast <to = 1> (c) r = ReduceMax <keepdims = 0> (fl)",
    "RandomNormal": "c = RandomNormal <shape = [{A}]> () m = Mul (c, u) "
    "r = ReduceMax <keepdims = 0> (m)",
    "TopK": "v = Reshape (u, one) c = Expand (v, size) t, i = TopK (c, size) "
    "r = ReduceMax <keepdims = 0> (t)",
    "NonZero": "v = Reshape (u, one) c = Expand (v, size) t = NonZero (c) fl = Cast <to = 1> (t) "
    "r = ReduceMax <keepdims = 0> (fl)",
    "AffineGrid": "t = Expand (u, affine) s4 = Concat <axis = 0> (one, one, root, root) "
    "c = AffineGrid (t, s4) r = ReduceMax <keepdims = 0> (c)",
    "CenterCropPad": "v = Reshape (u, one) c = CenterCropPad (v, size) "
    "r = ReduceMax <keepdims = 0> (c)",
    "Trilu": "v = Reshape (u, two) sq = Concat <axis = 0> (root, root) c = Expand (v, sq) "
    "m = Trilu (c) r = ReduceMax <keepdims = 0> (m)",
    "DFT": "v = Reshape (u, three) c = DFT (v, count) r = ReduceMax <keepdims = 0> (c)",
}

CONSTANTS = """int64[1] size = {{{S}}}, int64 count = {{{S}}}, int64[1] one = {{1}},
int64 zero = {{0}}, int64 unit = {{1}}, int64[1] none = {{0}}, int64[3] three = {{1, 1, 1}},
int64[2] two = {{1, 1}}, int64[1] root = {{{R}}}, int64 root0 = {{{R}}}, int64[1] axis0 = {{0}},
int64[1] axis1 = {{1}}, bool yes = {{1}}, int64 depth = {{{D}}}, int64[3] three2 = {{1, 1, 2}},
float[1] fnone = {{0}}, float[1] fone = {{1}},
int64[3] affine = {{1, 2, 3}}, float fixed = {{0.5}}, float[8, 4] w = {{{W}}}"""

PLACES = {
    "constant": "u = Identity (fixed) {bomb} f = Add (x, r) logits = MatMul (f, w)",
    "sample": "u = ReduceMax <keepdims = 0> (x) {bomb} f = Add (x, r) logits = MatMul (f, w)",
    "behind": "f = Relu (x) logits = MatMul (f, w) u = ReduceMax <keepdims = 0> (logits) {bomb} "
    "other = Add (logits, r)",
    "shape": "sh = Shape (x) top = Cast <to = 1> (sh) u = ReduceMax <keepdims = 0> (top) {bomb} "
    "f = Add (x, r) logits = MatMul (f, w)",
    "branch": "u = ReduceMax <keepdims = 0> (x) q = If (yes) <then_branch = t () => (float r) "
    "{{ {bomb} }}, else_branch = e () => (float z) {{ z = Neg (u) }}> "
    "f = Add (x, q) logits = MatMul (f, w)",
}


def explosive_model(random: np.random.Generator) -> tuple[Seed, bytes]:
    """Return what a model takes, and the model."""
    samples = {"x": np.random.default_rng(1).random((24, 8), np.float32)}
    shapes = [_bomb, _bomb, _bomb, _bomb, _doubling, _many_nodes, _functions]
    model = shapes[random.integers(len(shapes))](random)
    return Seed(model, samples), model.SerializeToString()


def _parsed(body: str, size: int, functions: str = "") -> onnx.ModelProto:
    numbers = {"S": size, "R": max(1, int(size**0.5)), "D": min(62, size.bit_length())}
    constants = CONSTANTS.format(W=", ".join(["1"] * 32), **numbers)
    text = (
        '<ir_version: 8, opset_import: ["" : 20, "own" : 1]>'
        f"f (float[N, 8] x) => (float[N, 4] logits) <{constants}> {{ {body} }} {functions}"
    )
    return onnx.parser.parse_model(text)


def _bomb(random: np.random.Generator) -> onnx.ModelProto:
    bombs, places = list(BOMBS), list(PLACES)
    size = SIZES[random.integers(len(SIZES))]
    bomb = BOMBS[bombs[random.integers(len(bombs))]].replace("{A}", str(size))
    return _parsed(PLACES[places[random.integers(len(places))]].format(bomb=bomb), size)


def _doubling(random: np.random.Generator) -> onnx.ModelProto:
    """A chain in which each value is a multiple of the one before in size, or a power."""
    links = [
        "t{1} = Concat <axis = 0> (t{0}, t{0})",
        "t{1} = Tile (t{0}, twice)",
        "p{0} = Pad (t{0}, grown) t{1} = Concat <axis = 0> (p{0}, t{0})",
        "a{0} = Unsqueeze (t{0}, axis0) b{0} = Concat <axis = 0> (a{0}, a{0}) "
        "t{1} = Reshape (b{0}, flat)",
        "q{0} = SplitToSequence <axis = 0> (t{0}) s{0} = ConcatFromSequence <axis = 0> (q{0}) "
        "t{1} = Concat <axis = 0> (s{0}, t{0})",
        "i{0} = Identity (t{0}) t{1} = Concat <axis = 0> (i{0}, t{0}, i{0}, t{0})",
    ]
    link = links[random.integers(len(links))]
    depth = int(random.integers(10, 45))
    chain = " ".join(link.format(n, n + 1) for n in range(depth))
    start = ["Identity (fone)", "Reshape (x, flat)"][random.integers(2)]
    body = (
        "twice = Constant <value_ints = [2]> () grown = Constant <value_ints = [0, 1]> () "
        f"flat = Constant <value_ints = [-1]> () t0 = {start} {chain} "
        f"r = ReduceMax <keepdims = 0> (t{depth}) f = Add (x, r) logits = MatMul (f, w)"
    )
    return _parsed(body, 1)


def _many_nodes(random: np.random.Generator) -> onnx.ModelProto:
    """Very many nodes: in a row, side by side, or with very many inputs."""
    count = int(random.choice([300, 3000, 30_000]))
    kind = random.integers(4)
    if kind == 0:
        nodes = " ".join(f"t{n + 1} = Relu (t{n})" for n in range(count))
        body = f"t0 = Relu (x) {nodes} logits = MatMul (t{count}, w)"
    elif kind == 1:
        nodes = " ".join(f"t{n} = Add (x, fixed)" for n in range(count))
        listed = ", ".join(f"t{n}" for n in range(count))
        body = f"{nodes} f = Sum ({listed}) logits = MatMul (f, w)"
    elif kind == 2:
        nodes = " ".join(f"t{n} = MatMul (x, w)" for n in range(count))
        listed = ", ".join(f"t{n}" for n in range(count))
        body = f"{nodes} logits = Max ({listed})"
    else:
        count = min(count, 25)
        inner = "z = Neg (x)"
        for n in range(count):
            inner = (
                f"z = If (yes) <then_branch = a{n} () => (float[N, 8] z) {{ {inner} }}, "
                f"else_branch = b{n} () => (float[N, 8] y) {{ y = Neg (x) }}>"
            )
        body = f"{inner} logits = MatMul (z, w)"
    return _parsed(body, 1)


def _functions(random: np.random.Generator) -> onnx.ModelProto:
    """Functions that call others more than once."""
    depth, calls = int(random.integers(3, 28)), int(random.integers(1, 4))
    inner = []
    for level in range(depth):
        target = f"own.F{level + 1}" if level < depth - 1 else "Relu"
        body = " ".join(f"h{n + 1} = {target} (h{n})" for n in range(calls))
        inner.append(
            f'<opset_import: ["" : 20, "own" : 1], domain: "own"> F{level} (h0) => (h{calls}) '
            f"{{ {body} }}"
        )
    return _parsed("f = own.F0 (x) logits = MatMul (f, w)", 1, "\n".join(inner))
