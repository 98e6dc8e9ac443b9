"""The image classifiers of transformers, as small as their configurations allow."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.compat.support.oracle import randomise, seed_of

_CLASSES: dict[str, Any] = {"num_labels": 7}
_VIT: dict[str, Any] = _CLASSES | {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
_BEIT = _VIT | {"use_relative_position_bias": True}
_DINO = {key: value for key, value in _VIT.items() if key != "intermediate_size"}
_SWIN = _CLASSES | {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
}
_STAGES = _CLASSES | {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_RESNET = _STAGES | {"embedding_size": 16}
_PYRAMID = _STAGES | {"image_size": 64, "hidden_sizes": [16, 32, 40, 64]}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "Beit": _BEIT,
    "Bit": _RESNET | {"num_groups": 4},
    "ConvNext": _STAGES,
    "ConvNextV2": _STAGES,
    "Cvt": _CLASSES
    | {
        "embed_dim": [16, 32, 48],
        "num_heads": [1, 2, 4],
        "depth": [1, 2, 3],
    },
    "Data2VecVision": _BEIT,
    "DeiT": _VIT,
    "Dinov2": _DINO,
    "EfficientNet": _CLASSES
    | {"image_size": 64, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    "FocalNet": _CLASSES
    | {
        "image_size": 64,
        "embed_dim": 16,
        "depths": [1, 1],
        "hidden_sizes": [16, 32],
        "focal_levels": [2, 2],
        "focal_windows": [3, 3],
    },
    "HGNetV2": _CLASSES | {"embedding_size": 16},
    "Hiera": _CLASSES
    | {
        "image_size": [64, 64],
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
    },
    "IJepa": _VIT,
    "Levit": _CLASSES
    | {
        "image_size": 64,
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "key_dim": [8, 8, 8],
        "depths": [1, 1, 1],
    },
    "MobileNetV1": _CLASSES | {"image_size": 64, "depth_multiplier": 0.25},
    "MobileNetV2": _CLASSES | {"image_size": 64, "depth_multiplier": 0.35},
    "MobileViT": _CLASSES | {"image_size": 64, "hidden_sizes": [24, 32, 40]},
    "MobileViTV2": _CLASSES | {"image_size": 64},
    "PoolFormer": _STAGES,
    "Pvt": _PYRAMID,
    "PvtV2": _PYRAMID,
    "RegNet": _RESNET | {"groups_width": 8},
    "ResNet": _RESNET,
    "Segformer": _PYRAMID,
    "SwiftFormer": _CLASSES
    | {
        "image_size": 64,
        "depths": [1, 1, 2, 1],
        "embed_dims": [16, 24, 32, 48],
    },
    "Swin": _SWIN,
    "Swinv2": _SWIN,
    "TextNet": _CLASSES | {"image_size": [64, 64]},
    "ViT": _VIT,
    "ViTMSN": _VIT,
}


class _Logits(torch.nn.Module):
    """A classifier that returns its logits rather than a structure with them."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Any) -> Any:
        return self.classifier(pixels).logits


def make(name: str) -> tuple[Any, int]:
    """Return a model with random weights, and the side of its input."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    settings = CONFIGURATIONS[name]
    if not hasattr(transformers, f"{name}ForImageClassification"):
        pytest.skip(f"this transformers has no {name}ForImageClassification")
    config = getattr(transformers, f"{name}Config")(**settings)
    torch.manual_seed(seed_of(name))
    classifier = getattr(transformers, f"{name}ForImageClassification")(config)
    for module in classifier.modules():
        if isinstance(module, torch.nn.Conv2d):
            # A deviation of 0.02 in narrow layers fades below float32's rounding of the biases.
            torch.nn.init.kaiming_normal_(module.weight)
    size = settings.get("image_size", 64)
    size = size[0] if isinstance(size, list) else size
    return _Logits(randomise(classifier, seed_of(name))).eval(), size
