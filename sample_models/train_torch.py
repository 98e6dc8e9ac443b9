"""Train a PyTorch sample model on Fashion-MNIST and export it to ONNX.

To make the three models again, with ``pip install torch onnxscript``::

    python sample_models/train_torch.py pooled
    python sample_models/train_torch.py wide
    python sample_models/train_torch.py robust

``robust`` is the pooled network, trained against single-step FGSM with a random start (Wong, Rice,
Kolter, arXiv 2001.03994) at linf 8/255. Each run writes ``fashion_<name>.onnx`` and the weights as
``fashion_<name>.npz``, from which `torch_models.load_model` rebuilds the original. The seed fixes
the result on one machine and one PyTorch version; elsewhere it differs in the last digits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import fashion_mnist
import onnx_output
import torch
import torch_models
from torch import Tensor
from torch.nn.functional import cross_entropy

EPOCHS = {"pooled": 8, "wide": 8, "robust": 10}
EPSILON = 8 / 255
BATCH = 128


def augment(x: Tensor) -> Tensor:
    """Mirror half of the images and shift each by up to 2 pixels."""
    n = len(x)
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.5, x.flip(3), x)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))[:, 0]
    rows = torch.randint(0, 5, (n, 1, 1)) + torch.arange(28)[:, None]
    columns = torch.randint(0, 5, (n, 1, 1)) + torch.arange(28)
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


def perturb(
    model: torch.nn.Module, x: Tensor, y: Tensor, step: float, steps: int, start: Tensor
) -> Tensor:
    """Climb the loss by signed gradients from `start`, inside the linf ball and [0, 1]."""
    attacked = start
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        loss = cross_entropy(model(attacked), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, attacked)
        moved = attacked.detach() + step * gradient.sign()
        attacked = moved.clamp(x - EPSILON, x + EPSILON).clamp(0, 1)
    return attacked.detach()


def random_start(x: Tensor) -> Tensor:
    return (x + torch.empty_like(x).uniform_(-EPSILON, EPSILON)).clamp(0, 1)


def train(
    model: torch.nn.Module, x: Tensor, y: Tensor, *, epochs: int, peak_rate: float, robust: bool
) -> None:
    """Run SGD with one learning-rate cycle; `robust` trains on attacked images alone."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=peak_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    batches = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_rate, epochs * batches, pct_start=0.25
    )
    for epoch in range(epochs):
        started, total = time.perf_counter(), 0.0
        model.train()
        for indices in torch.randperm(len(x))[: batches * BATCH].split(BATCH):
            images, labels = augment(x[indices]), y[indices]
            if robust:
                images = perturb(model, images, labels, 1.25 * EPSILON, 1, random_start(images))
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - started
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / batches:.4f}, {seconds:.0f} s", flush=True
        )
    model.eval()


def pgd_accuracy(model: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Accuracy under PGD with 20 steps of a tenth of the budget, linf 8/255, one random start."""
    right = 0
    for images, labels in zip(x.split(500), y.split(500), strict=True):
        attacked = perturb(model, images, labels, EPSILON / 10, 20, random_start(images))
        right += int((model(attacked).argmax(1) == labels).sum())
    return right / len(x)


def export(model: torch.nn.Module, path: Path, training: str) -> None:
    """Export with the current exporter: symbolic batch, weights inside, head a Gemm."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 1, 28, 28),),
        input_names=["input"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    metadata = {"input_layout": "NCHW", "framework": f"PyTorch {torch.__version__.split('+')[0]}"}
    onnx_output.write(program.model_proto, path, metadata | {"training": training})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and export a PyTorch sample model.")
    parser.add_argument("name", choices=EPOCHS)
    fashion_mnist.add_folder_option(parser)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    images, labels = fashion_mnist.load(options.fashion_mnist, "train")
    test_images, test_labels = fashion_mnist.load(options.fashion_mnist, "test")
    x = torch.from_numpy(fashion_mnist.to_unit(images)[:, None])
    test_x = fashion_mnist.to_unit(test_images)[:, None]

    robust = options.name == "robust"
    model = torch_models.FashionNet("wide" if options.name == "wide" else "pooled")
    # On a CPU the backward pass of these convolutions is ten times as fast in this memory order.
    model.to(memory_format=torch.channels_last)
    epochs = options.epochs or EPOCHS[options.name]
    train(model, x, torch.from_numpy(labels), epochs=epochs, peak_rate=0.1, robust=robust)
    stem = options.out / f"fashion_{options.name}"
    training = "FGSM with random start, linf 8/255" if robust else "clean images"
    export(model, stem.with_suffix(".onnx"), training)
    torch_models.save_weights(model, stem.with_suffix(".npz"))

    clean = onnx_output.accuracy(stem.with_suffix(".onnx"), test_x, test_labels)
    attacked = pgd_accuracy(model, torch.from_numpy(test_x), torch.from_numpy(test_labels))
    print(f"{stem.name}: {clean:.2%} on {len(test_x)} test images, PGD-20 at 8/255 {attacked:.2%}")


if __name__ == "__main__":
    main()
