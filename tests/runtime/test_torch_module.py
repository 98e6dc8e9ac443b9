"""The bridge gives torch the logits and gradients that the torch original gives."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.errors import DataError, ModelError, UnsupportedOperatorError, UsageError
from cloakify.onnxfile import open_model

torch = pytest.importorskip("torch", reason="the bridge needs the extra torch")

from torch.nn import functional  # noqa: E402

from cloakify.runtime.differentiable import SIZES_KEPT  # noqa: E402
from cloakify.runtime.torch_module import OnnxModule  # noqa: E402
from sample_models.torch_models import load_model  # noqa: E402
from tests.support.one_logit import FEATURES, OneLogit  # noqa: E402

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "sample_models"
POOLED = MODELS / "fashion_pooled.onnx"


@pytest.fixture(scope="module")
def samples():
    with np.load(MODELS / "test.npz", allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["x"][:40]), torch.from_numpy(arrays["y"][:40])


@pytest.fixture(scope="module")
def original():
    return load_model(MODELS / "fashion_pooled.npz", "pooled").requires_grad_(False)


@pytest.fixture(scope="module")
def module():
    return OnnxModule(POOLED, "cpu", batch_size=16, threads=2)


def input_gradient(model, x, y):
    x = x.clone().requires_grad_()
    functional.cross_entropy(model(x), y, reduction="sum").backward()
    return x.grad


def assert_near(found, expected, relative=1e-4):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() <= relative * expected.abs().max()


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_cores_share_a_batch(samples, original, count, threads):
    """Too few samples are run by all cores together, more of them apart."""
    x, y = (part[:count] for part in samples)
    module = OnnxModule(POOLED, "cpu", threads=threads)
    with torch.no_grad():
        assert_near(module(x), original(x))
    assert_near(input_gradient(module, x, y), input_gradient(original, x, y))


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_logits_and_gradients_are_the_originals(module, original, samples, count):
    x, y = (part[:count] for part in samples)
    expected = original(x)
    assert_near(module(x), expected)
    with torch.no_grad():
        assert_near(module(x.clone().requires_grad_()), expected)
    assert_near(module(x.clone().requires_grad_()).detach(), expected)
    assert_near(input_gradient(module, x, y), input_gradient(original, x, y))


def test_the_wide_sample_has_its_originals_gradient(samples):
    original = load_model(MODELS / "fashion_wide.npz", "wide").requires_grad_(False)
    module = OnnxModule(MODELS / "fashion_wide.onnx", "cpu", threads=1)
    x, y = (part[:8] for part in samples)
    assert_near(module(x), original(x))
    assert_near(input_gradient(module, x, y), input_gradient(original, x, y))


def test_each_logit_can_be_differentiated_from_one_forward(module, original, samples):
    x = samples[0][:5]
    jacobians = []
    for model in (module, original):
        moving = x.clone().requires_grad_()
        logits = model(moving)
        rows = [
            torch.autograd.grad(logits[:, k].sum(), moving, retain_graph=True)[0] for k in range(10)
        ]
        jacobians.append(torch.stack(rows))
    assert_near(*jacobians)


DOUBLE = """
<ir_version: 8, opset_import: ["" : 17]>
f (double[N, 5] x) => (double[N, 3] p)
<double[5, 4] v = {0.3, -1, 0.2, 0.7, 1.1, 0.4, -0.6, 0.9, -0.2, 0.5, 0.8, -0.3, 0.1, 0.6, -0.9,
 0.4, 0.7, -0.5, 0.2, 1.3},
 double[4, 3] w = {1, -0.4, 0.3, 0.2, 0.8, -1.2, 0.5, 0.9, 0.1, -0.7, 0.6, 1.1}>
{ h = MatMul (x, v)  t = Tanh (h)  l = MatMul (t, w)  p = Softmax (l) }
"""


def test_double_models_pass_torchs_gradcheck():
    module = OnnxModule(onnx.parser.parse_model(DOUBLE), "cpu", batch_size=2)
    assert module.anchor.dtype == torch.float64
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 5))).requires_grad_()
    assert torch.autograd.gradcheck(module, x)
    # The logits are those before the Softmax.
    assert not torch.allclose(module(x).sum(1), torch.ones(3, dtype=torch.float64))


def test_a_second_derivative_is_refused(module, samples):
    x = samples[0][:2].clone().requires_grad_()
    loss = module(x).square().sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(UsageError, match="no second derivative"):
        gradient.sum().backward()


def test_samples_of_any_dtype_and_layout_are_taken(module, original, samples):
    x, y = (part[:4] for part in samples)
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert not turned.is_contiguous()
    expected = input_gradient(original, x, y)
    assert_near(input_gradient(module, turned, y), expected)
    wide = input_gradient(module, x.double(), y)
    assert wide.dtype == torch.float64
    assert_near(wide.float(), expected)


def test_logits_can_be_written_to(module, samples):
    x = samples[0][:2]
    for logits in (module(x), module(x.clone().requires_grad_()).detach()):
        logits += 1
        assert torch.isfinite(logits).all()


def test_samples_overwritten_before_the_way_back_change_nothing():
    # The gradient of a square reads the input itself.
    text = """
        <ir_version: 8, opset_import: ["" : 17]> f (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}> { s = Mul (x, x)  y = MatMul (s, w) }
    """
    module = OnnxModule(onnx.parser.parse_model(text), "cpu")
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = module(x).sum()
    x.data.zero_()
    loss.backward()
    np.testing.assert_allclose(x.grad, [[6, 28], [18, 56]])


def test_no_samples_give_no_logits(module):
    x = torch.zeros(0, 1, 28, 28)
    assert module(x).shape == (0, 10)
    moving = x.clone().requires_grad_()
    module(moving).sum().backward()
    assert moving.grad.shape == x.shape


def test_few_sizes_are_kept(module, samples):
    x, y = samples
    for count in (1, 2, 3, 5, 9, 40):
        input_gradient(module, x[:count], y[:count])
    assert len(module._engine._pairs) <= SIZES_KEPT


def test_a_fixed_batch_is_filled_up(original, samples):
    model = open_model(POOLED).load_weights()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    module = OnnxModule(model, "cpu", threads=1)
    x, y = (part[:6] for part in samples)
    assert_near(module(x), original(x))
    assert_near(input_gradient(module, x, y), input_gradient(original, x, y))


HALF = """
<ir_version: 8, opset_import: ["" : 17]> f (float16[N, 2] x) => (float16[N, 2] y)
<float[2, 2] v = {1, 2, 3, 4}> { w = Cast <to: int = 10> (v)  s = Relu (x)  y = MatMul (s, w) }
"""


def test_half_models_give_and_take_32_bits():
    module = OnnxModule(onnx.parser.parse_model(HALF), "cpu")
    x = torch.tensor([[1.0, -2.0]], requires_grad=True)
    with torch.no_grad():
        assert module(x).dtype == torch.float32
    logits = module(x)
    np.testing.assert_array_equal(logits.detach(), [[1, 2]])
    logits.sum().backward()
    np.testing.assert_array_equal(x.grad, [[3, 0]])


def test_libraries_find_a_parameter_and_may_move_it(module):
    (parameter,) = module.parameters()
    assert (parameter.device.type, parameter.dtype) == ("cpu", torch.float32)
    assert not parameter.requires_grad
    assert not module.training
    module.train()
    assert module.to("cpu").eval() is module
    assert "64 features → 10 classes" in repr(module)


def test_an_operator_without_a_rule_is_refused_only_where_a_gradient_is_asked_for():
    text = """
        <ir_version: 8, opset_import: ["" : 17]> f (float[N, 1, 2, 2] x) => (float[N, 2] y)
        <float[1, 2] w = {1, 2}> { d = Det (x)  y = MatMul (d, w) }
    """
    module = OnnxModule(onnx.parser.parse_model(text), "cpu")
    x = torch.eye(2)[None, None]
    np.testing.assert_allclose(module(x), [[1, 2]])
    with pytest.raises(UnsupportedOperatorError, match="no gradient rule for Det"):
        module(x.requires_grad_())


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 784)])
def test_wrong_shapes_are_named(module, shape):
    for x in (torch.zeros(shape), torch.zeros(shape, requires_grad=True)):
        with pytest.raises(DataError, match="the model takes N×1×28×28, not "):
            module(x)


def test_whole_numbers_have_no_gradient():
    text = HALF.replace("float16[N, 2] x", "uint8[N, 2] x").replace(
        "Relu (x)", "Cast <to: int = 10> (x)"
    )
    with pytest.raises(ModelError, match="takes uint8, which torch has no gradient for"):
        OnnxModule(onnx.parser.parse_model(text), "cpu")


def test_bad_arguments_are_refused():
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        OnnxModule(POOLED, "cpu", batch_size=0)
    with pytest.raises(UsageError, match="--device takes"):
        OnnxModule(POOLED, "gpu")
    with pytest.raises(ModelError, match="no linear layer is called 'other'"):
        OnnxModule(POOLED, "cpu", head="other")


def python(program: str) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_without_torch_the_error_says_what_to_install():
    found = python(
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from cloakify.errors import UsageError\n"
        "try:\n"
        "    import cloakify.runtime.torch_module\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    assert found == "torch is not installed (pip install 'cloakify[torch]')"


def test_torch_is_imported_by_the_bridge_alone():
    assert python("import sys, cloakify.runtime; print('torch' in sys.modules)") == "False"


def test_copies_open_sessions_of_their_own(module, samples):
    x = samples[0][:3].clone().requires_grad_()
    expected = torch.autograd.grad(module(x).sum(), x)[0]
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied._engine is not module._engine
        torch.testing.assert_close(torch.autograd.grad(copied(x).sum(), x)[0], expected)


def test_one_logit_is_two() -> None:
    network = OneLogit()
    x = torch.rand(5, FEATURES, generator=torch.Generator().manual_seed(0), requires_grad=True)
    module = OnnxModule(network.model("squeezed sigmoid"), "cpu")
    assert module.num_classes == 2
    logits = module(x)
    expected = network.logit(x.detach().numpy())
    np.testing.assert_allclose(logits.detach()[:, 1], expected, atol=1e-4)
    assert not logits.detach()[:, 0].any()
    logits[:, 1].sum().backward()
    np.testing.assert_allclose(x.grad, network.slope(x.detach().numpy()), atol=1e-4)
