"""Print what cloakify, torch and torch.compile do a second with the same attacks, as one table.

    python tests/gpu/table.py [--device cuda] [--models resnet50 …] [--batches 64 256] [--tf32]

Weights are random, inputs 224². Calibration is FGSM with the features before and after; PGD and
Auto-PGD take 10 steps each, by all samples. The ratio is that to the same library's own forward
pass: a gradient step is 2 forward passes and more, calibration 3. Peak memory is the device's (of
the CPU: the process's). Each row is a process of its own; once the time that is given is over, the
rows that are left are said to be left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODELS = ("resnet50", "vit_b_16", "mobilenet_v3_large")
LIBRARIES = ("cloakify", "torch", "torch.compile")
TASKS = ("calibration", "pgd", "apgd")

_EXPORT = """
import sys
sys.path[:0] = sys.argv[1:4]
import torch
from gradient import torch_model
from rates import options_for
name, path, size = sys.argv[4:]
# The fused encoder layer of inference has no ONNX form.
torch.backends.mha.set_fastpath_enabled(False)
torch.onnx.export(
    torch_model(name, **options_for(name, int(size))),
    (torch.zeros(2, 3, int(size), int(size)),),
    path,
    dynamo=False,
    input_names=["x"],
    output_names=["logits"],
    dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
)
"""


def export(name: str, path: Path, size: int) -> None:
    """Write a model with random weights and a symbolic batch, or say why not."""
    places = [str(ROOT), str(ROOT / "tests" / "benchmarks"), str(HERE)]
    command = [sys.executable, "-W", "ignore", "-c", _EXPORT, *places, name, str(path), str(size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{name} was not exported: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)


def measure(arguments: list[str], seconds: float) -> dict[str, float] | str:
    """Return what `rates.py` prints, or the last line of why it does not."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", HERE / "rates.py", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:.0f} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:120] if lines else f"ended with {done.returncode}"
    return json.loads(done.stdout.splitlines()[-1])


def row(found: dict[str, float] | str) -> str:
    if isinstance(found, str):
        return f"{found} |" + " |" * (len(TASKS) + 1)
    cells = [f"{found['forward']:.0f}"]
    for task in TASKS:
        cells.append(f"{found[task]:.1f} ({found['forward'] / found[task]:.2f} F)")
    return " | ".join([*cells, f"{found['peak']:.0f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--libraries", nargs="+", default=LIBRARIES, choices=LIBRARIES)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--time", type=float, default=420, help="seconds, for all")
    parser.add_argument("--tf32", action="store_true")
    options = parser.parse_args()
    ends = time.monotonic() + options.time
    print(
        f"PGD-{options.steps} and Auto-PGD-{options.steps}: "
        "samples a second (in forward passes F)\n"
    )
    print("| model | batch | library | forward | calibration | PGD | Auto-PGD | peak, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.onnx" for name in options.models}
        for name, path in files.items():
            export(name, path, options.size)
        # What takes longest to begin comes last.
        for library in options.libraries:
            for name, path in files.items():
                for batch in options.batches:
                    arguments = [library, name, str(path), "--device", options.device]
                    arguments += ["--batch", str(batch), "--size", str(options.size)]
                    arguments += ["--steps", str(options.steps), *["--tf32"] * options.tf32]
                    left = ends - time.monotonic()
                    found = measure(arguments, left) if left > 5 else "left out: no time"
                    print(f"| {name} | {batch} | {library} | {row(found)}", flush=True)


if __name__ == "__main__":
    main()
