"""What one library does a second with one model at one batch size; a process of its own.

Prints one line of JSON: samples a second of a forward pass, of calibration, of PGD and of Auto-PGD,
and the peak of the device's memory in MB.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks"), str(Path(__file__).parent)]

from peak import peak_memory_mb  # noqa: E402

EPS = 4 / 255
Task = Callable[[], object]


class DeviceMemory:
    """The most memory that is in use on the GPU, sampled; on the CPU the process's peak."""

    def __init__(self, device: str) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1") if device != "cpu" else None
        self._peak = 0
        if self._library is None:
            return
        self._library.nvmlInit_v2()
        self._handle = ctypes.c_void_p()
        index = int(device.partition(":")[2] or 0)
        self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(self._handle))
        self._idle = self._used()
        threading.Thread(target=self._watch, daemon=True).start()

    def _used(self) -> int:
        told = (ctypes.c_ulonglong * 3)()
        self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(told))
        return int(told[2])

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, self._used())
            time.sleep(0.02)

    @property
    def peak_mb(self) -> float:
        return peak_memory_mb() if self._library is None else (self._peak - self._idle) / 2**20


def cloakify_tasks(path: Path, x: Any, y: Any, options: argparse.Namespace) -> dict[str, Task]:
    """Return what is timed, by name, of the file."""
    from cloakify.attacks import Target, make_attack, make_threat
    from cloakify.data import Preprocessing
    from cloakify.experiment.classifier import open_classifier
    from cloakify.runtime import resolve_device

    classifier = open_classifier(path)
    device = resolve_device(options.device, tf32=options.tf32)
    target = Target(classifier.model, classifier.spec, classifier.scores, device, options.batch)
    threat = make_threat("linf", EPS, classifier.spec, Preprocessing())
    index = np.arange(len(x))

    def attack(name: str, steps: int, **more: object) -> Task:
        method = make_attack(name, steps=steps, stop_early=False, **more)
        return lambda: method.run(target, x, y, index, threat)

    def calibration() -> None:
        step = target.step(x, y, x, threat, threat.eps)
        features, _ = target.features_and_logits(step.x)
        np.abs(features - step.features).sum(axis=0)

    return {
        "forward": lambda: target.logits(x),
        "calibration": calibration,
        "pgd": attack("pgd", options.steps, step_size=EPS / 4),
        "apgd": attack("apgd", options.steps),
    }


def options_for(name: str, size: int) -> dict[str, int]:
    """Return what torchvision has to be told to make a model for images of that side."""
    return {"image_size": size} if name.startswith("vit") else {}


def torch_tasks(name: str, x: Any, y: Any, options: argparse.Namespace) -> dict[str, Task]:
    """Return the same of the torch original, compiled or not."""
    import torch
    import torch_attacks
    from gradient import torch_model

    kind = options.device
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    model = torch_model(name, **options_for(name, options.size)).to(kind)
    network = torch_attacks.WithFeatures(model)
    compiled = torch.compile(network) if options.library == "torch.compile" else network
    parts = [
        tuple(
            torch.from_numpy(part).to(kind)
            for part in (x[at : at + options.batch], y[at : at + options.batch])
        )
        for at in range(0, len(x), options.batch)
    ]

    def over(run: Callable[..., Any]) -> Task:
        def task() -> None:
            for part in parts:
                run(compiled, *part)
            if kind != "cpu":
                torch.cuda.synchronize()

        return task

    def forward(network: Any, inputs: Any, _: Any) -> None:
        with torch.no_grad():
            network(inputs)[0].cpu()

    def calibration(network: Any, inputs: Any, labels: Any) -> None:
        torch_attacks.calibrate(network, inputs, labels, EPS).cpu()

    def attack(run: Callable[..., Any]) -> Callable[..., Any]:
        return lambda network, inputs, labels: run(network, inputs, labels, EPS, options.steps)

    return {
        "forward": over(forward),
        "calibration": over(calibration),
        "pgd": over(attack(torch_attacks.pgd)),
        "apgd": over(attack(torch_attacks.apgd)),
    }


def rates(tasks: Mapping[str, Task], samples: int, seconds: float) -> dict[str, float]:
    """Return samples a second of each task, the best of as many runs as so many seconds hold."""
    found = {}
    for name, task in tasks.items():
        task()
        times: list[float] = []
        while not times or sum(times) < seconds:
            begun = time.perf_counter()
            task()
            times.append(time.perf_counter() - begun)
        found[name] = samples / min(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["cloakify", "torch", "torch.compile"])
    parser.add_argument("model", help="a classifier of torchvision")
    parser.add_argument("file", type=Path, help="the same, exported")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--tf32", action="store_true")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = random.uniform(0, 1, (options.batch, 3, options.size, options.size)).astype(np.float32)
    y = random.integers(0, 1000, len(x))
    memory = DeviceMemory(options.device)
    if options.library == "cloakify":
        tasks = cloakify_tasks(options.file, x, y, options)
    else:
        tasks = torch_tasks(options.model, x, y, options)
    found = rates(tasks, len(x), options.seconds)
    print(json.dumps(found | {"peak": memory.peak_mb}))


if __name__ == "__main__":
    main()
