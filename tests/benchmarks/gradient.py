"""What a gradient costs: forward and backward over forward in ONNX Runtime, and over torch.

    pip install torchvision onnxscript      # beside the torch that is installed
    python tests/benchmarks/gradient.py [--models resnet18 …] [--batch 8] [--device cpu|cuda]

For each torchvision model (random weights, 224²): time of forward+backward over time of forward,
both by ONNX Runtime, measured in turn; the same over torch's autograd (gradient of the input only);
the time to build the gradient graph and to open its session; peak memory of a process that does
nothing else; and, with --profile, where ONNX Runtime spends its time. The floor is 2 × forward.

Forward is one run of the whole batch with all threads, as anyone would have it. On the CPU the
gradient is run as cloakify runs it, a part of the batch on each core, and so is a second forward,
whose figures are the ones in parentheses.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.attack_steps.build import LABELS, GradientSpec, build_gradient
from cloakify.runtime import Session, Workers, fitting_batch_size, resolve_device

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from peak import peak_memory_mb

MODELS = [
    "resnet18",
    "resnet50",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
]


def torch_model(name: str, **options: Any) -> Any:
    """Return a torchvision model with seeded random weights, its parameters frozen."""
    import torch

    from tests.compat.support.torchvision_ops import torchvision

    torch.manual_seed(0)
    return getattr(torchvision().models, name)(weights=None, **options).eval().requires_grad_(False)


def export(name: str, folder: Path) -> Path:
    """Export a model with a symbolic batch, once."""
    import torch

    path = folder / f"{name}.onnx"
    if not path.exists():
        torch.onnx.export(
            torch_model(name),
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    return path


def in_turn(
    tasks: list[Callable[[], object]], repeats: int, seconds: float = 10.0
) -> list[list[float]]:
    """Time several tasks in turn, after one warm-up each; seconds by task.

    Runs of some milliseconds say little each: goes on for so many seconds, and for as many repeats.
    """
    for task in tasks:
        task()
    times: list[list[float]] = [[] for _ in tasks]
    begun = time.perf_counter()
    while len(times[0]) < repeats or time.perf_counter() - begun < seconds:
        for task, found in zip(tasks, times, strict=True):
            start = time.perf_counter()
            task()
            found.append(time.perf_counter() - start)
    return times


class Experiment:
    """One model in ONNX Runtime: forward, and forward with backward."""

    def __init__(self, path: Path, batch: int, device: str, threads: int) -> None:
        model = onnx.load(path)
        head, spec = find_head(model).head, find_input(model)
        chosen = resolve_device(device)
        self.workers = Workers(chosen, threads)
        size = min(batch, fitting_batch_size((3, 224, 224), chosen))
        start = time.perf_counter()
        shapes = {spec.name: (size, 3, 224, 224)}
        gradient = build_gradient(model, shapes, GradientSpec(spec.name, head.logits))
        self.build = time.perf_counter() - start
        start = time.perf_counter()
        self.backward = Session(gradient, chosen, threads=self.workers.threads, both_ways=True)
        self.open = time.perf_counter() - start
        self.model, self.gradient = model, gradient
        self.forward = Session(model, chosen, threads=threads)
        self.forward_apart = Session(model, chosen, threads=self.workers.threads)
        self.x = np.random.default_rng(0).random((batch, 3, 224, 224), dtype=np.float32)
        self.whole = {spec.name: self.forward.put(self.x)}
        y = np.arange(size)
        self.parts = [
            {spec.name: self.forward.put(self.x[start : start + size])}
            for start in range(0, batch, size)
        ]
        self.labelled = [part | {LABELS: self.backward.put(y)} for part in self.parts]

    def run_forward(self) -> None:
        self.forward.run_on_device(self.whole)

    def run_forward_apart(self) -> None:
        self.workers.map(self.forward_apart.run_on_device, self.parts)

    def run_backward(self) -> None:
        self.workers.map(self.backward.run_on_device, self.labelled)


def torch_task(name: str, x: np.ndarray, device: str, compiled: bool) -> Callable[[], object]:
    """Return a task that computes torch's gradient of the input."""
    import torch

    model = torch_model(name).to(device)
    if compiled:
        model = torch.compile(model)
    samples = torch.tensor(x, device=device, requires_grad=True)
    labels = torch.arange(len(x), device=device)

    def task() -> object:
        loss = torch.nn.functional.cross_entropy(model(samples), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, samples)
        # Bringing one number home waits for the device.
        return gradient.flatten()[0].item()

    return task


def gradients_alone(path: Path, batch: int, threads: int) -> None:
    """Compute gradients twice and hold nothing else: later runs may need more than the first."""
    model = onnx.load(path)
    logits, name = find_head(model).head.logits, find_input(model).name
    device = resolve_device("cpu")
    workers = Workers(device, threads)
    size = min(batch, fitting_batch_size((3, 224, 224), device))
    gradient = build_gradient(model, {name: (size, 3, 224, 224)}, GradientSpec(name, logits))
    del model
    session = Session(gradient, device, threads=workers.threads, both_ways=True)
    del gradient
    x = np.random.default_rng(0).random((batch, 3, 224, 224), dtype=np.float32)
    parts = [
        {name: x[start : start + size], LABELS: np.arange(size)} for start in range(0, batch, size)
    ]
    for _ in range(2):
        workers.map(session.run_on_device, parts)


def peak_memory(kind: str, name: str, path: Path, options: argparse.Namespace) -> float:
    """Return the peak memory in MB of a process that only computes gradients, by one runtime."""
    arguments = [sys.executable, __file__, "--peak", kind, "--models", name, "--folder"]
    arguments += [str(path.parent), "--batch", str(options.batch), "--threads", "2"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def profile(experiment: Experiment) -> None:
    """Print what operators take on a core, for a gradient and for forward, in forward passes."""
    part = experiment.labelled[0]
    alone = operator_times(experiment.model, experiment.parts[0])
    total = sum(alone.values())
    both = operator_times(experiment.gradient, part)
    for title, spent in (("gradient", both), ("forward", alone)):
        shares = [f"{op} {time / total:.3f}" for op, time in spent.most_common(8)]
        print(f"    {title} {sum(spent.values()) / total:.2f}: {', '.join(shares)}")


def operator_times(
    model: onnx.ModelProto, feeds: dict[str, Any], runs: int = 5
) -> collections.Counter[str]:
    """Return ONNX Runtime's time on one core by operator, of each node its quickest run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options)
        for _ in range(runs):
            session.run(None, {name: value.numpy() for name, value in feeds.items()})
        events = json.loads(Path(session.end_profiling()).read_text())
    quickest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["name"], event["args"]["op_name"]
            quickest[node] = min(event["dur"], quickest.get(node, event["dur"]))
    spent: collections.Counter[str] = collections.Counter()
    for (_, op), duration in quickest.items():
        spent[op] += duration
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="At least so many; 10 s at least.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="Keep the exported models here.")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well.")
    parser.add_argument("--peak", choices=["onnx", "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak == "onnx":
        gradients_alone(
            options.folder / f"{options.models[0]}.onnx", options.batch, options.threads
        )
    elif options.peak == "torch":
        use_torch(options.threads)
        x = np.random.default_rng(0).random((options.batch, 3, 224, 224), np.float32)
        task = torch_task(options.models[0], x, "cpu", False)
        for _ in range(2):
            task()
    if options.peak:
        print(peak_memory_mb())
        return
    use_torch(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in options.models:
            compare(name, export(name, folder), options)


def use_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def compare(name: str, path: Path, options: argparse.Namespace) -> None:
    """Measure one model and print its line."""
    experiment = Experiment(path, options.batch, options.device, options.threads)
    tasks: list[Callable[[], object]] = [experiment.run_forward, experiment.run_backward]
    tasks.append(torch_task(name, experiment.x, options.device, False))
    tasks.append(experiment.run_forward_apart)
    if options.compile:
        tasks.append(torch_task(name, experiment.x, options.device, True))
    times = in_turn(tasks, options.repeats)

    def ratio(first: int, second: int) -> str:
        pairs = zip(times[first], times[second], strict=True)
        return f"{statistics.median(a / b for a, b in pairs):.2f}"

    print(
        f"{name:<20} {ratio(1, 0)} x forward ({statistics.median(times[0]):.3f} s; "
        f"{ratio(1, 3)} x {statistics.median(times[3]):.3f} s), "
        f"{ratio(1, 2)} x torch, build {experiment.build:.2f} s + session {experiment.open:.2f} s"
        + (f", {ratio(1, 4)} x torch.compile" if options.compile else ""),
        flush=True,
    )
    if options.memory:
        peaks = {kind: peak_memory(kind, name, path, options) for kind in ("onnx", "torch")}
        print(f"    peak memory {peaks['onnx']:.0f} MB, torch {peaks['torch']:.0f} MB")
    if options.profile:
        profile(experiment)


if __name__ == "__main__":
    main()
