"""What `harden` and `evaluate` cost on a model of real size, in forward passes a sample.

    python tests/benchmarks/real_size.py [--model resnet18] [--samples 60] [--standing 0.5]
        [--effort quick standard]

Exports one of torchvision's models for 224², with weights drawn at random and a head that tells the
synthetic images apart, looks for a budget that a given share of the images withstands, and runs
both verbs through the command line. The time of a forward pass of
a sample, F, is measured before and after each of them, at the better of two workers with a thread
each and one with two. Wall times are compared by it, and times of the processor by its own, which
other work on the machine moves less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloakify.attacks import Target
from cloakify.attacks.apgd import Apgd
from cloakify.attacks.threat import make_threat
from cloakify.data.preprocessing import Preprocessing
from cloakify.experiment.classifier import open_classifier
from cloakify.runtime import Session, Workers, resolve_device

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

CLASSES, SIZE, BATCH = 10, 224, 8
# Where the models have their heads.
HEADS = {
    "resnet18": "fc",
    "resnet50": "fc",
    "vit_b_16": "heads.head",
    "mobilenet_v3_large": "classifier.3",
}
# Forward passes a sample that a run may take.
BARS = {
    ("harden", "quick"): 15,
    ("harden", "standard"): 60,
    ("evaluate", "quick"): 100,
    ("evaluate", "standard"): 400,
}


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of the processor."""

    wall: float
    processor: float


def cost_of(task: Callable[[], object]) -> Cost:
    """Run a task in this process."""
    wall, processor = time.perf_counter(), time.process_time()
    task()
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def images(count: int) -> np.ndarray:
    """Return smooth random images in [0, 1], float32 [count, 3, 224, 224]."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 1, (count, 3, 8, 8))
    fine = random.uniform(-0.1, 0.1, (count, 3, 56, 56))
    whole = np.kron(coarse, np.ones((1, 1, 28, 28))) + np.kron(fine, np.ones((1, 1, 4, 4)))
    return np.clip(whole, 0, 1).astype(np.float32)


def export(name: str, path: Path, x: np.ndarray) -> None:
    """Write a model whose head gives the images different classes."""
    import torch

    from tests.compat.support.torchvision_ops import torchvision

    torch.manual_seed(0)
    model = getattr(torchvision().models, name)(num_classes=CLASSES).eval()
    # What untrained features have in common would make one class of all images, and what hardly
    # moves must not decide.
    with torch.no_grad():
        head = model.get_submodule(HEADS[name])
        model.set_submodule(HEADS[name], torch.nn.Identity())
        # Vision transformers begin with a head of zeros.
        head.reset_parameters()
        features = model(torch.from_numpy(x[:32]))
        centre, spread = features.mean(0), features.std(0)
        head.weight *= 20 / spread.clamp(min=spread.mean())
        head.bias.copy_(-head.weight @ centre)
        model.set_submodule(HEADS[name], head)
    torch.onnx.export(
        model,
        (torch.from_numpy(x[:1]),),
        str(path),
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
        dynamo=False,
    )


def budget_for(model: Path, x: np.ndarray, standing: float) -> float:
    """Return an ε, in pixels of [0, 1], of which that share of the images withstands Auto-PGD."""
    classifier = open_classifier(model)
    target = Target(
        classifier.model, classifier.spec, classifier.scores, resolve_device("cpu"), BATCH
    )
    y, index = target.logits(x).argmax(axis=1), np.arange(len(x))
    low, high = 0.0, 4 / 255
    for _ in range(5):
        eps = (low + high) / 2
        threat = make_threat("linf", eps, classifier.spec, Preprocessing())
        attacked = Apgd(steps=20).run(target, x, y, index, threat)
        if target.correct(attacked, y).mean() > standing:
            low = eps
        else:
            high = eps
    return eps


def forward(model: Path, x: np.ndarray) -> Cost:
    """Return what a forward pass of one sample costs at the better of two ways to use two cores."""
    classifier = open_classifier(model)
    device = resolve_device("cpu")
    batches = [x[start : start + BATCH] for start in range(0, 4 * BATCH, BATCH)]
    costs = []
    for workers, threads in ((2, 1), (1, 2)):
        session = Session(classifier.file.model, device, threads=threads)
        pool = Workers(device, workers)

        def run(session: Session = session, pool: Workers = pool) -> None:
            pool.map(lambda batch: session.run({classifier.spec.name: batch}), batches)

        run()
        costs += [cost_of(run) for _ in range(3)]
    samples = BATCH * len(batches)
    return Cost(
        min(cost.wall for cost in costs) / samples,
        min(cost.processor for cost in costs) / samples,
    )


def run_verb(arguments: list[str]) -> tuple[Cost, float, dict[str, object]]:
    """Run the command line in a process of its own; return its cost, peak in MB, and report."""
    code = (
        "import json, sys, time; from cloakify.cli.main import run; "
        "from peak import peak_memory_mb; code = run(sys.argv[1:]); sys.stdout.flush(); "
        "print('\\n' + json.dumps([peak_memory_mb(), time.process_time(), code]))"
    )
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--device", "cpu", "--json", "--trust"],
        stdout=subprocess.PIPE,
        text=True,
        env=here,
        check=True,
    )
    wall = time.perf_counter() - begun
    document, _, last = done.stdout.rstrip().rpartition("\n")
    peak, processor, status = json.loads(last)
    if status not in (0, 1):
        raise SystemExit(f"{arguments[0]} ended with {status}")
    return Cost(wall, processor), peak, json.loads(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=HEADS, default="resnet18")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--effort", nargs="+", default=["quick", "standard"])
    parser.add_argument("--verb", nargs="+", default=["harden", "evaluate"])
    parser.add_argument("--standing", type=float, default=0.5)
    parser.add_argument("--eps", type=float, help="in place of one that so many withstand")
    options = parser.parse_args()
    x = images(max(options.samples, 4 * BATCH))
    with tempfile.TemporaryDirectory() as folder:
        model, data = Path(folder) / f"{options.model}.onnx", Path(folder) / "data.npz"
        export(options.model, model, x)
        np.savez(data, x=x[: options.samples])
        eps = options.eps or budget_for(model, x[: 2 * BATCH], options.standing)
        print(f"eps is {eps:.3g}", file=sys.stderr)
        print("| verb | effort | samples | F, ms | wall, s | wall, F | CPU, F | bar | peak, MB |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for verb in options.verb:
            for effort in options.effort:
                before = forward(model, x)
                arguments = [verb, str(model), "--data", str(data), "--labels", "model"]
                arguments += ["--eps", str(eps), "--effort", effort]
                if verb == "harden":
                    # Of few samples a single one is more than any sensible bound.
                    arguments += ["--max-accuracy-drop", "0.5"]
                cost, peak, report = run_verb(arguments)
                after = forward(model, x)
                clock = min(before.wall, after.wall)
                processor = min(before.processor, after.processor)
                n = options.samples
                print(
                    f"| `{verb}` | {effort} | {n} | {1000 * clock:.1f} | {cost.wall:.0f} "
                    f"| {cost.wall / n / clock:.0f} | {cost.processor / n / processor:.0f} "
                    f"| {BARS.get((verb, effort), '')} | {peak:.0f} |",
                    flush=True,
                )
                stages = {name: round(spent, 1) for name, spent in report["timing"].items()}
                print(f"  stages in seconds: {stages}", file=sys.stderr)


if __name__ == "__main__":
    main()
