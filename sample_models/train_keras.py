"""Train the Keras sample models on Fashion-MNIST and export them to ONNX.

To make them again, with ``pip install tensorflow-cpu tf2onnx onnxruntime``::

    python sample_models/train_keras.py          # fashion_keras.onnx
    python sample_models/train_keras.py shirt    # fashion_shirt.onnx

Both take NHWC images. ``fashion_keras`` tells ten classes apart and ends in MatMul, Add, Softmax;
``fashion_shirt`` tells what is worn above the waist from everything else by a single logit and ends
in MatMul, Add, Sigmoid. The seed fixes the result on one machine and one TensorFlow version;
elsewhere it differs in the last digits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import fashion_mnist
import keras
import numpy as np
import onnx
import onnx_output
import tensorflow as tf
from keras import layers

BATCH = 128


def build(name: str) -> keras.Model:
    """Three convolutions with max pooling, then features and probabilities.

    128 features and ten probabilities, or for ``shirt`` 64 features and one. Takes float32 [batch,
    28, 28, 1] in [0, 1].
    """
    features, probabilities = (64, 1) if name == "shirt" else (128, 10)
    stages = []
    for channels in (16, 32, 64):
        stages += [
            layers.Conv2D(channels, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="input"),
            *stages,
            layers.Flatten(),
            layers.Dense(features, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(
                probabilities,
                activation="sigmoid" if probabilities == 1 else "softmax",
                name="probabilities",
            ),
        ],
        name=f"fashion_{name}",
    )


def train(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> None:
    """Run Adam with a cosine schedule on randomly mirrored images."""
    steps = len(x) // BATCH
    batches = (
        tf.data.Dataset.from_tensor_slices((x, y))
        .shuffle(len(x), seed=seed)
        .batch(BATCH, drop_remainder=True)
    )
    mirror = layers.RandomFlip("horizontal", seed=seed)
    batches = batches.map(lambda images, labels: (mirror(images, training=True), labels))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps)
    loss = "binary_crossentropy" if y.max() == 1 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(batches, epochs=epochs, verbose=2)


def export(model: keras.Model, path: Path, metadata: dict[str, str]) -> None:
    """Export by Keras's own ONNX exporter, with a symbolic batch."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        model.export(exported, format="onnx", verbose=False)
        proto = onnx.load(exported)
    metadata |= {
        "input_layout": "NHWC",
        "framework": f"Keras {keras.__version__}, TensorFlow {tf.__version__}",
        "training": "clean images",
    }
    onnx_output.write(proto, path, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and export a Keras sample model.")
    parser.add_argument("name", nargs="?", default="keras", choices=["keras", "shirt"])
    fashion_mnist.add_folder_option(parser)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    images, labels = fashion_mnist.load(options.fashion_mnist, "train")
    test_images, test_labels = fashion_mnist.load(options.fashion_mnist, "test")

    if options.name == "shirt":
        labels, test_labels = fashion_mnist.is_shirt(labels), fashion_mnist.is_shirt(test_labels)
    model = build(options.name)
    train(model, fashion_mnist.to_unit(images)[..., None], labels, options.epochs, options.seed)
    path = options.out / f"{model.name}.onnx"
    shirt = {"classes": '["other", "shirt"]'}
    export(model, path, shirt if options.name == "shirt" else {})

    clean = onnx_output.accuracy(path, fashion_mnist.to_unit(test_images)[..., None], test_labels)
    print(f"{path.stem}: {clean:.2%} on {len(test_labels)} test images")


if __name__ == "__main__":
    main()
