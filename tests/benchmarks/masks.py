"""What each way to harden buys, at which clean cost: one table, one picture, adaptive first.

    python tests/benchmarks/masks.py [--models fashion_pooled,…] [--eps 2,4,8] [--methods …]
        [--calibration 1000,20000] [--drop 0.02] [--attack apgd,apgd-t|autoattack] [--samples 1000]
    python tests/benchmarks/masks.py --methods deepcloak,auto,random --ratios 0.01,0.05,0.1,0.3

Hardens the sample models and attacks every result on test images that no step of it has seen. What
was measured is kept in ``--results`` (JSON lines), so a stopped run goes on where it stood;
``--table`` makes the tables and the picture from that file without measuring: the whole table in
README.md beside, a summary in the project's README.

1,000 calibration images are ``sample_models/calib``; other numbers are taken from Fashion-MNIST's
training images (``--idx``: the folder of its IDX files; Debian package dataset-fashion-mnist).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "sample_models"))

import fashion_mnist

import cloakify
from cloakify.attacks import Apgd, ApgdT, AutoAttack, Fgsm, Target, worst_case
from cloakify.attacks.registry import make_attack
from cloakify.errors import GateError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import open_experiment
from cloakify.graph.edit.mask import insert_mask
from cloakify.masking.feature_scores import random_ranking
from cloakify.masking.mask_choice import choose, size_of_ratio
from cloakify.settings import HardenSetting
from tests.benchmarks.masks_table import (
    SHORT,
    SOURCE,
    Measured,
    Task,
    bits,
    markdown,
    picture,
    put_table,
    summary,
)

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "masks.jsonl"
PICTURE = Path(__file__).parent / "masks.svg"
TABLE = Path(__file__).parent / "README.md"
SUMMARY = ROOT / "README.md"

METHODS: dict[str, dict[str, object]] = {
    "deepcloak": {"score": "deepcloak"},
    "auto": {"score": "auto"},
    "random": {},
    "tuned": {"method": "tuned"},
    "channel": {"method": "tuned", "gates": "channel"},
    "binary": {"method": "tuned", "binary": True},
}


def calibration_data(count: int, folder: Path, idx: Path) -> Path:
    if count == 1000:
        return ROOT / "sample_models" / "calib"
    path = folder / f"calib{count}.npz"
    if not path.exists():
        x, y = fashion_mnist.load(idx, "train")
        rows = np.sort(np.random.default_rng(0).permutation(len(x))[:count])
        np.savez(path, x=x[rows].reshape(-1, 1, 28, 28).astype(np.float32) / 255, y=y[rows])
    return path


class Bench:
    """A source model with the test images."""

    def __init__(self, model: str, eps: float, samples: int) -> None:
        self.path = ROOT / "sample_models" / f"{model}.onnx"
        setting = HardenSetting(eps=eps / 255, device="cpu")
        test = ROOT / "sample_models" / "test.npz"
        self.experiment = open_experiment(
            open_classifier(self.path), test, setting, lambda *_: None
        )
        (batch,) = self.experiment.dataset.batches(None, len(self.experiment.dataset))
        self.x, self.y = batch.x.astype(np.float32, copy=False), batch.y
        self.some = slice(0, samples)
        source = self.target(self.path)
        x, y, index = self.attacked
        self.static = Fgsm().run(source, x, y, index, self.experiment.threat)

    @property
    def attacked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y = self.x[self.some], self.y[self.some]
        return x, y, np.arange(len(y))

    def target(self, path: Path) -> Target:
        found = self.experiment.target(open_classifier(path).model)
        found.threads = 1
        return found

    def measure(self, path: Path, task: Task, note: str, spent: float) -> Measured:
        start = time.perf_counter()
        target = self.target(path)
        clean = target.correct(self.x, self.y)
        x, y, index = self.attacked
        static = target.correct(self.static, y)
        if task.attack == "autoattack":
            attacks = list(AutoAttack().attacks)
        elif task.attack == SHORT:
            attacks = [Apgd(steps=30), ApgdT(steps=25, num_targets=3, by_slope=True)]
        else:
            attacks = [make_attack(name) for name in task.attack.split(",")]
        found = worst_case(attacks, target, x, y, index, self.experiment.threat)
        took = time.perf_counter() - start
        return Measured(
            task,
            note,
            len(clean),
            bits(clean),
            bits(static & clean[self.some]),
            {name: bits(robust) for name, robust in found.robust.items()},
            round(spent, 1),
            round(took, 1),
        )


def harden(bench: Bench, task: Task, folder: Path, idx: Path) -> tuple[Path, str, float] | None:
    if task.method == "random":
        classifier = bench.experiment.classifier
        total = classifier.head.num_features
        choice = choose(random_ranking(total, 0), size_of_ratio(total, task.ratio), "random")
        output = folder / "random.onnx"
        masked = insert_mask(classifier.model, classifier.head, choice.mask, {})
        output.write_bytes(masked.SerializeToString())
        return output, f"{len(choice.removed)} of {total} masked", 0.0
    data = calibration_data(task.calibration, folder, idx)
    setting = HardenSetting(
        eps=task.eps / 255,
        device="cpu",
        evaluation_steps=1,
        seed=task.seed,
        **(
            {"mask_ratio": task.ratio}
            if task.ratio
            else {"max_accuracy_drop": task.drop, "write_anyway": True}
        ),
        **METHODS[task.method],  # type: ignore[arg-type]
    )
    named = (task.model, f"{task.eps:g}", task.method, task.calibration, task.ratio, task.seed)
    output = folder / f"{'-'.join(map(str, named))}.onnx"
    told = output.with_suffix(".json")
    if told.exists():
        return output, *json.loads(told.read_text())
    try:
        result = cloakify.harden(bench.path, data, output, setting)
    except GateError as error:
        print(f"  {task.method}: {error}", flush=True)
        return None
    spent = sum(value for stage, value in result.report.timing.items() if stage != "evaluate")
    mask = result.report.mask
    note = f"{mask.removed} of {mask.total} masked" if mask.method == "deepcloak" else ""
    note = note or f"{mask.total} gates, {mask.removed} of them 0"
    told.write_text(json.dumps([note, spent]))
    return output, note, spent


def known(results: Path) -> list[Measured]:
    if not results.exists():
        return []
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return [Measured(**{**line, "task": Task(**line["task"])}) for line in lines]


def tasks(options: argparse.Namespace) -> list[Task]:
    found = []
    for model in options.models.split(","):
        for eps in map(float, options.eps.split(",")):
            common = (options.drop, options.attack, options.samples)
            found.append(Task(model, eps, SOURCE, 0, 0.0, *common[1:]))
            for count in map(int, options.calibration.split(",")):
                for method in options.methods.split(","):
                    for ratio in map(float, options.ratios.split(",")):
                        found += [
                            Task(model, eps, method, count, *common, ratio, seed)
                            for seed in map(int, options.seeds.split(","))
                        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="fashion_pooled,fashion_wide,fashion_keras")
    parser.add_argument("--eps", default="4")
    parser.add_argument("--methods", default="deepcloak,auto,binary,tuned")
    parser.add_argument("--calibration", default="1000")
    parser.add_argument("--ratios", default="0", help="of the features; 0: what --drop allows")
    parser.add_argument("--drop", type=float, default=0.02)
    parser.add_argument("--seeds", default="0", help="of hardening; of several the mean is told")
    parser.add_argument(
        "--attack",
        default="apgd,apgd-t",
        help=f"by name; autoattack; or {SHORT}: 30 steps, and 25 for each of three targets",
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--idx", type=Path, default=fashion_mnist.DEBIAN_FOLDER)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--keep", type=Path, help="folder of hardened files, to attack again")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    done = known(options.results)
    if not options.table:
        have = {found.task for found in done}
        with tempfile.TemporaryDirectory() as made_here:
            folder = Path(options.keep or made_here)
            folder.mkdir(parents=True, exist_ok=True)
            for task in tasks(options):
                if task in have:
                    continue
                bench = Bench(task.model, task.eps, task.samples)
                made: tuple[Path, str, float] | None = (bench.path, "", 0.0)
                if task.method != SOURCE:
                    made = harden(bench, task, folder, options.idx)
                if made is None:
                    continue
                found = bench.measure(made[0], task, made[1], made[2])
                done.append(found)
                with options.results.open("a") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
                print(markdown(done, found.task)[-1], flush=True)
    print("\n".join(markdown(done)))
    if options.results == RESULTS:
        for path, lines in ((TABLE, markdown(done)), (SUMMARY, summary(done))):
            path.write_text(put_table(path.read_text(), lines))
        PICTURE.write_text(picture(done))


if __name__ == "__main__":
    main()
