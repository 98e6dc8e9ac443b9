"""Libraries that attack torch modules attack an ONNX file unchanged, as strongly as its original.

One attack of each, on 16 samples, once on the bridge and once on the torch original. A library that
is not installed is skipped: ``pip install pyautoattack torchattacks foolbox
adversarial-robustness-toolbox adv-lib secml-torch``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs the extra torch")

from cloakify.runtime.torch_module import OnnxModule  # noqa: E402
from sample_models.torch_models import load_model  # noqa: E402
from tests.compat.support.torchvision_ops import torchvision  # noqa: E402

pytestmark = pytest.mark.compat

MODELS = Path(__file__).parents[2] / "sample_models"
EPS, STEPS = 4 / 255, 5

# (model, x, y) -> attacked samples
Attack = Callable[["torch.nn.Module", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def library(name: str) -> ModuleType:
    if importlib.util.find_spec("torchvision"):
        # Two of the libraries import it, which may have been built for another torch.
        torchvision()
    return pytest.importorskip(name)


def autoattack(name: str) -> Attack:
    def attack(model, x, y):
        package = library("pyautoattack")
        adversary = package.AutoAttack(
            model, norm="Linf", eps=EPS, version="custom", attacks=[name], seed=0
        )
        for part in (adversary.apgd, adversary.apgd_targeted, adversary.fab):
            part.n_iter, part.n_restarts, part.n_target_classes = STEPS, 1, 2
        adversary.square.n_queries = 50
        return adversary.run_standard_evaluation(x, y, batch_size=16)[0]

    return attack


def torchattacks(name: str, **settings: object) -> Attack:
    def attack(model, x, y):
        return getattr(library("torchattacks"), name)(model, **settings)(x, y)

    return attack


def foolbox(model, x, y):
    fb = library("foolbox")
    wrapped = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = fb.attacks.LinfPGD(steps=STEPS, rel_stepsize=1 / 3, random_start=False)
    return attack(wrapped, x, y, epsilons=EPS)[1]


def art(model, x, y):
    evasion, classifiers = library("art.attacks.evasion"), library("art.estimators.classification")
    wrapped = classifiers.PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = evasion.ProjectedGradientDescent(
        wrapped, eps=EPS, eps_step=EPS / 3, max_iter=STEPS, verbose=False
    )
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def adv_lib(model, x, y):
    attack = library("adv_lib.attacks").fmn
    found = attack(model, x, y, norm=float("inf"), steps=4 * STEPS)
    # A minimal-distance attack: what it finds is held to the budget here.
    return torch.where((found - x).abs().flatten(1).amax(1)[:, None, None, None] <= EPS, found, x)


def secml_torch(model, x, y):
    pgd = library("secmlt.adv.evasion.pgd")
    wrapper = library("secmlt.models.pytorch.base_pytorch_nn").BasePyTorchClassifier(model)
    attack = pgd.PGD("linf", EPS, STEPS, EPS / 3, random_start=False, backend="native")
    pairs = torch.utils.data.TensorDataset(x, y)
    batches = attack(wrapper, torch.utils.data.DataLoader(pairs, batch_size=8))
    return torch.cat([attacked for attacked, _ in batches])


ATTACKS: dict[str, Attack] = {
    "pyautoattack-apgd-ce": autoattack("apgd-ce"),
    "pyautoattack-apgd-t": autoattack("apgd-t"),
    "pyautoattack-fab": autoattack("fab"),
    "pyautoattack-fab-t": autoattack("fab-t"),
    "pyautoattack-square": autoattack("square"),
    "torchattacks-pgd": torchattacks("PGD", eps=EPS, alpha=EPS / 3, steps=STEPS),
    "torchattacks-apgd": torchattacks("APGD", eps=EPS, steps=STEPS, seed=0),
    "foolbox-pgd": foolbox,
    "art-pgd": art,
    "adv-lib-fmn": adv_lib,
    "secml-torch-pgd": secml_torch,
}


@pytest.fixture(scope="module")
def samples():
    with np.load(MODELS / "test.npz", allow_pickle=False) as arrays:
        return torch.from_numpy(arrays["x"][:16]), torch.from_numpy(arrays["y"][:16])


@pytest.fixture(scope="module")
def original():
    return load_model(MODELS / "fashion_pooled.npz", "pooled")


@pytest.fixture(scope="module")
def module():
    return OnnxModule(MODELS / "fashion_pooled.onnx", "cpu")


def accuracy(model, x, y) -> float:
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_library_attacks_the_file_as_it_attacks_the_original(name, samples, original, module):
    x, y = samples
    found = {}
    for model in (original, module):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  (libraries draw from it)
        attacked = ATTACKS[name](model, x.clone(), y.clone()).detach()
        assert attacked.shape == x.shape
        assert (attacked - x).abs().max() <= EPS + 1e-6
        found[model] = accuracy(model, attacked, y)
    clean = accuracy(module, x, y)
    assert clean == accuracy(original, x, y)
    assert found[module] < clean
    # A sample at the very boundary may go either way, by the rounding of two runtimes.
    assert abs(found[module] - found[original]) <= 2 / len(x)
