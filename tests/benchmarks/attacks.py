"""PGD-10 and Auto-PGD-20 by cloakify on the ONNX file, by other libraries on the torch original.

    python tests/benchmarks/attacks.py [--samples 256] [--repeats 3] [--threads 2] [--eps 4/255]
    python tests/benchmarks/attacks.py --memory

Each run is a process of its own, after a warm-up in it, so that no library's threads are in
another's way; libraries take turns. Prints median seconds, the ratio to cloakify's, and the
robust accuracy that each leaves. ``full`` is cloakify without stopping at samples already fooled.
Libraries that are not installed are left out.

``--memory`` prints instead the peak memory of `cloakify attack` on 500 and on 4,000 samples, each
in a process of its own: it must not grow with their number.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from peak import peak_memory_mb

ROOT = Path(__file__).parents[2]
NEEDS = {
    "cloakify": "onnxruntime",
    "cloakify full": "onnxruntime",
    "torchattacks": "torchattacks",
    "art": "art",
    "foolbox": "foolbox",
}
ATTACKS = {"pgd": 10, "apgd": 20}
BATCH = 64

# Attacks all samples and returns the attacked ones.
Task = Callable[[], np.ndarray]


def cloakify_task(attack: str, x, y, eps: float, threads: int, stop_early: bool) -> Task:
    from cloakify.attacks import Target, make_attack, make_threat
    from cloakify.data import Preprocessing
    from cloakify.graph.analysis.classifier_search import find_classifier
    from cloakify.graph.analysis.inputs import find_input
    from cloakify.onnxfile import open_model
    from cloakify.runtime import fitting_batch_size, resolve_device

    file = open_model(ROOT / "sample_models" / "fashion_pooled.onnx")
    spec, scores = find_input(file.model), find_classifier(file.model).scores
    device = resolve_device("cpu")
    batch = fitting_batch_size(x.shape[1:], device)
    target = Target(file.load_weights(), spec, scores, device, batch_size=batch, threads=threads)
    threat = make_threat("linf", eps, spec, Preprocessing())
    step = eps / 4 if attack == "pgd" else None
    method = make_attack(attack, steps=ATTACKS[attack], step_size=step, stop_early=stop_early)
    return lambda: method.run(target, x, y, np.arange(len(x)), threat)


def torch_model(threads: int):
    import torch

    from sample_models.torch_models import load_model

    torch.set_num_threads(threads)
    return load_model(ROOT / "sample_models" / "fashion_pooled.npz", "pooled")


def torchattacks_task(attack: str, x, y, eps: float, threads: int) -> Task:
    import torch
    import torchattacks

    model = torch_model(threads)
    method = (
        torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=10)
        if attack == "pgd"
        else torchattacks.APGD(model, eps=eps, steps=20, loss="ce")
    )
    parts = [torch.from_numpy(a).split(BATCH) for a in (x, y)]
    return lambda: torch.cat([method(*part) for part in zip(*parts, strict=True)]).detach().numpy()


def art_task(attack: str, x, y, eps: float, threads: int) -> Task:
    import torch
    from art.attacks.evasion import (
        AutoProjectedGradientDescent,
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        torch_model(threads), torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1)
    )
    common = {"norm": np.inf, "eps": eps, "batch_size": BATCH, "verbose": False}
    method = (
        ProjectedGradientDescentPyTorch(
            classifier, eps_step=eps / 4, max_iter=10, num_random_init=1, **common
        )
        if attack == "pgd"
        else AutoProjectedGradientDescent(
            classifier,
            eps_step=2 * eps,
            max_iter=20,
            nb_random_init=1,
            loss_type="cross_entropy",
            **common,
        )
    )
    return lambda: method.generate(x, np.eye(10, dtype=np.float32)[y])


def foolbox_task(attack: str, x, y, eps: float, threads: int) -> Task | None:
    import foolbox
    import torch

    if attack != "pgd":
        return None
    model = foolbox.PyTorchModel(torch_model(threads), bounds=(0, 1), device="cpu")
    method = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=10)
    parts = [torch.from_numpy(a).split(BATCH) for a in (x, y)]
    return lambda: torch.cat(
        [method(model, *part, epsilons=eps)[1] for part in zip(*parts, strict=True)]
    ).numpy()


def task_of(library: str, attack: str, x, y, eps: float, threads: int) -> Task | None:
    if library.startswith("cloakify"):
        return cloakify_task(attack, x, y, eps, threads, stop_early=library == "cloakify")
    makers = {"torchattacks": torchattacks_task, "art": art_task, "foolbox": foolbox_task}
    return makers[library](attack, x, y, eps, threads)


def child(options: argparse.Namespace) -> None:
    """Run one attack of one library once warm; print seconds and robust accuracy."""
    import onnxruntime as ort

    with np.load(ROOT / "sample_models" / "test.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"][: options.samples], arrays["y"][: options.samples]
    eps = float(Fraction(options.eps))
    task = task_of(options.library, options.attack, x, y, eps, options.threads)
    if task is None:
        print("null")
        return
    task()
    start = time.perf_counter()
    found = task()
    seconds = time.perf_counter() - start
    # Torch's libraries leave rounding errors of a step; a real overstep would show here.
    assert np.abs(found - x).max() <= eps + 1e-6
    session = ort.InferenceSession(
        ROOT / "sample_models" / "fashion_pooled.onnx", providers=["CPUExecutionProvider"]
    )
    logits = session.run(None, {session.get_inputs()[0].name: found.astype(np.float32)})[0]
    print(json.dumps([seconds, float((logits.argmax(axis=1) == y).mean())]))


def measure(library: str, attack: str, options: argparse.Namespace) -> list[float] | None:
    command = [sys.executable, __file__, "--library", library, "--attack", attack]
    for name in ("samples", "threads", "eps", "data"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(options.threads),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: list[float] | None = json.loads(done.stdout.splitlines()[-1])
    return result


def memory_child(options: argparse.Namespace) -> None:
    """Attack samples as a user would; print the peak of resident memory in MiB."""
    import cloakify

    setting = cloakify.AttackSetting(
        attack=options.attack, steps=2, eps=float(Fraction(options.eps)), device="cpu"
    )
    model = ROOT / "sample_models" / "fashion_pooled.onnx"
    cloakify.attack(model, options.data, options.data.with_name("attacked.npz"), setting)
    print(json.dumps([peak_memory_mb()]))


def memory(options: argparse.Namespace) -> None:
    with np.load(ROOT / "sample_models" / "test.npz", allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]
    for attack in ("pgd", "apgd", "apgd-t", "square", "fab-t"):
        peaks = []
        for samples in (500, 4000):
            with tempfile.TemporaryDirectory() as folder:
                options.data = Path(folder) / "data.npz"
                rows = np.arange(samples) % len(y)
                np.savez(options.data, x=x[rows], y=y[rows])
                peaks += measure("memory", attack, options)
        print(
            f"{attack:7} 500 samples {peaks[0]:6.1f} MiB, 4,000 samples {peaks[1]:6.1f} MiB, "
            f"{peaks[1] - peaks[0]:+.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--library", choices=[*NEEDS, "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library == "memory":
        memory_child(options)
        return
    if options.memory:
        memory(options)
        return
    if options.library:
        child(options)
        return
    there = [name for name, module in NEEDS.items() if importlib.util.find_spec(module)]
    for attack, steps in ATTACKS.items():
        runs: dict[str, list[list[float]]] = {name: [] for name in there}
        for _ in range(options.repeats):
            for name in there:
                result = measure(name, attack, options)
                if result is not None:
                    runs[name].append(result)
        own = [seconds for seconds, _ in runs["cloakify"]]
        print(f"{attack}-{steps}, linf {options.eps}, {options.samples} samples")
        for name, results in runs.items():
            if results:
                median = statistics.median(seconds for seconds, _ in results)
                # Turn by turn, so that what else the machine does hits both alike.
                pairs = zip(results, own, strict=True)
                ratio = statistics.median(result[0] / seconds for result, seconds in pairs)
                left = statistics.median(left for _, left in results)
                print(f"  {name:14} {median:7.2f} s  {ratio:5.2f} ×  robust {left:.1%}")


if __name__ == "__main__":
    main()
