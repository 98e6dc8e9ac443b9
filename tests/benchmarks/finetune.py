"""The limit of what gates and shifts can reach: adversarial fine-tuning of all weights, in torch.

    python tests/benchmarks/finetune.py [--models fashion_pooled,fashion_wide] [--eps 4]
        [--calibration 1000,20000] [--rate 0.001] [--drop 0.02] [--samples 1000]

Tunes every weight of the PyTorch originals with the samples, mixtures, batches, attack and soft
labels that `cloakify harden --method tuned` has (all samples but those that it reports on, and all
of its steps), and attacks the result on the same test images. How far the weights go from the
source's to the tuned ones is chosen as gates are drawn back, but on the test images themselves: as
far as ``--drop`` of clean accuracy allows there, which no honest choice can better. Rows go into
``--results`` as those of ``masks.py`` do; ``masks.py --table`` puts them beside cloakify's own.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softmax

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "sample_models"))

import fashion_mnist
import torch_models

from cloakify.experiment.experiment import open_experiment
from cloakify.hardening.tuning_plan import FEW_SAMPLES, make_plan
from cloakify.masking.course import Course
from cloakify.masking.optimiser import cosine
from cloakify.masking.tuning import TuningPlan
from cloakify.numeric.arrays import Array, Labels
from cloakify.settings import HardenSetting
from tests.benchmarks.masks import RESULTS, ROOT, Bench, calibration_data, known
from tests.benchmarks.masks_table import FINETUNED, Task

STRENGTHS = [number / 20 for number in range(20, 0, -1)]


def samples(bench: Bench, data: Path, seed: int) -> tuple[Array, Labels, TuningPlan]:
    """Return the samples that cloakify would tune on, their labels, and how."""
    setting = HardenSetting(device="cpu", method="tuned", gates="position", seed=seed)
    classifier = bench.experiment.classifier
    experiment = open_experiment(classifier, data, setting, lambda *_: None)
    splits = experiment.splits()
    plan = make_plan(setting, len(splits.fit))
    few = len(splits.fit) < FEW_SAMPLES
    chosen = np.union1d(splits.fit, splits.select) if few else splits.fit
    (batch,) = experiment.dataset.batches(chosen, len(chosen))
    return batch.x.astype(np.float32), batch.y, plan


def finetune(
    source: nn.Module, x: Array, y: Labels, eps: float, plan: TuningPlan, rate: float
) -> nn.Module:
    """Return a copy with all weights tuned; running statistics stay as they are."""
    generator = torch.Generator().manual_seed(plan.seed)
    model = copy.deepcopy(source).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    course = Course([np.arange(len(x))], plan)
    for step in range(plan.steps):
        draw = course.draw(step)
        batch = torch.from_numpy(draw.inputs(x[draw.samples]))
        labels = torch.from_numpy(y[draw.index])
        with torch.no_grad():
            goal = softmax(source(batch), 1)
        left = int(plan.clean_share * len(batch))
        now = eps * min(1.0, (step + 1) / (plan.warmup * plan.steps))
        moved = attacked(model, batch[left:], labels[left:], now, plan, generator)
        loss = -(goal * log_softmax(model(torch.cat([batch[:left], moved])), 1)).sum(1).mean()
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(step, plan.steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    plan: TuningPlan,
    generator: torch.Generator,
) -> Tensor:
    """Take one step from a random start, as the tuning of gates does."""
    start = x + eps * (2 * torch.rand(x.shape, generator=generator) - 1)
    start = start.clamp(0, 1).requires_grad_()
    loss = nn.functional.cross_entropy(model(start), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, start)
    moved = start.detach() + plan.step_ratio * eps * gradient.sign()
    return torch.clamp(torch.minimum(torch.maximum(moved, x - eps), x + eps), 0, 1)


def between(source: nn.Module, tuned: nn.Module, strength: float) -> nn.Module:
    """Return the network whose weights lie so far on the way from the source's to the tuned."""
    model = copy.deepcopy(source)
    with torch.no_grad():
        for own, other in zip(model.parameters(), tuned.parameters(), strict=True):
            own.lerp_(other, strength)
    return model


def write(model: nn.Module, source: Path, path: Path) -> None:
    """Write the network as the source's graph with other weights."""
    graph = onnx.load(source)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Linear):
            put(weights[f"{name}.weight"], module.weight)
            put(weights[f"{name}.bias"], module.bias)
        elif isinstance(module, torch_models.ConvNorm):
            # The exporter folds each normalisation into its convolution.
            fused = torch.nn.utils.fuse_conv_bn_eval(module[0], module[1])
            put(weights[f"{name}.0.weight"], fused.weight)
            put(weights[f"{name}.0.weight_bias"], fused.bias)
    path.write_bytes(graph.SerializeToString())


def put(tensor: onnx.TensorProto, values: Tensor) -> None:
    found = onnx.numpy_helper.from_array(values.detach().contiguous().numpy(), tensor.name)
    assert tensor.dims == found.dims, tensor.name
    tensor.CopyFrom(found)


def strongest(bench: Bench, source: nn.Module, tuned: nn.Module, drop: float) -> float:
    """Return how far the weights can go for so much clean accuracy on the test images."""

    def right(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(torch.from_numpy(bench.x)).argmax(1).numpy() == bench.y).mean())

    floor = right(source) - drop
    return next((t for t in STRENGTHS if right(between(source, tuned, t)) >= floor), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="fashion_pooled,fashion_wide")
    parser.add_argument("--eps", type=float, default=4)
    parser.add_argument("--calibration", default="1000")
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--drop", type=float, default=0.02)
    parser.add_argument("--attack", default="apgd,apgd-t")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--idx", type=Path, default=fashion_mnist.DEBIAN_FOLDER)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    done = known(options.results)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models.split(","):
            bench = Bench(name, options.eps, options.samples)
            weights = ROOT / "sample_models" / f"{name}.npz"
            features = "wide" if name.endswith("wide") else "pooled"
            source = torch_models.load_model(weights, features)
            for count in map(int, options.calibration.split(",")):
                common = (options.drop, options.attack, options.samples, 0.0, options.seed)
                task = Task(name, options.eps, FINETUNED, count, *common)
                start = time.perf_counter()
                data = calibration_data(count, Path(folder), options.idx)
                x, y, plan = samples(bench, data, options.seed)
                eps = options.eps / 255
                tuned = finetune(source, x, y, eps, plan, options.rate)
                spent = time.perf_counter() - start
                strength = strongest(bench, source, tuned, options.drop)
                output = Path(folder) / f"{name}.onnx"
                write(between(source, tuned, strength), bench.path, output)
                found = bench.measure(output, task, f"strength {strength:g}", spent)
                done.append(found)
                with options.results.open("a") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
                clean, robust = 100 * found.right.mean(), 100 * found.robust.mean()
                print(
                    f"{name}, {count} images: clean {clean:.1f}, adaptive {robust:.1f}, "
                    f"strength {strength:g}, {spent:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
