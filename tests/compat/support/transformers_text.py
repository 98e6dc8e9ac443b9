"""The text classifiers of transformers, as small as their configurations allow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.compat.support.oracle import OPSET, Exporter, export_quietly, randomise, seed_of
from tests.compat.support.torchvision_ops import torchvision

WORDS, LENGTH = 60, 9

_BERT: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
_GPT: dict[str, Any] = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4}
_LLAMA = _BERT | {"num_key_value_heads": 2}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "Albert": _BERT | {"embedding_size": 24},
    "Bert": _BERT,
    "Camembert": _BERT,
    "ConvBert": _BERT | {"embedding_size": 24},
    "Deberta": _BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2": _BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DistilBert": {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "Electra": _BERT | {"embedding_size": 24},
    "Ernie": _BERT,
    "FNet": {key: _BERT[key] for key in _BERT if key != "num_attention_heads"},
    "Funnel": {
        "vocab_size": WORDS,
        "block_sizes": [1, 1],
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 48,
    },
    "GPT2": _GPT,
    "GPTNeoX": _BERT,
    "Llama": _LLAMA,
    "MPNet": _BERT,
    "Mistral": _LLAMA,
    "MobileBert": _BERT | {"embedding_size": 32, "intra_bottleneck_size": 32},
    "ModernBert": _BERT | {"global_attn_every_n_layers": 2},
    "OPT": {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 48,
        "max_position_embeddings": 40,
    },
    "Phi": _BERT,
    "Qwen2": _LLAMA,
    "RoFormer": _BERT | {"embedding_size": 32},
    "Roberta": _BERT,
    "SqueezeBert": _BERT | {"embedding_size": 32},
    "XLMRoberta": _BERT,
    "XLNet": {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
}

Array = NDArray[np.generic]


class _Logits(torch.nn.Module):
    """A classifier that returns its logits rather than a structure with them."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits


def make(name: str) -> Any:
    """Return a model with random weights in double, which takes ids and a mask."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    # Transformers imports it where it is installed.
    with contextlib.suppress(pytest.skip.Exception):
        torchvision()
    if not hasattr(transformers, f"{name}ForSequenceClassification"):
        pytest.skip(f"this transformers has no {name}ForSequenceClassification")
    settings = CONFIGURATIONS[name] | {"num_labels": 5, "pad_token_id": 0}
    config = getattr(transformers, f"{name}Config")(**settings)
    config._attn_implementation = "eager"
    torch.manual_seed(seed_of(name))
    classifier = getattr(transformers, f"{name}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            # A deviation of 0.02 makes all logits alike.
            if parameter.ndim > 1:
                parameter.mul_(5)
    return _Logits(randomise(classifier, seed_of(name))).eval()


def samples(name: str, count: int) -> tuple[Array, Array]:
    """Return ids and masks int64 [count, LENGTH]; some samples are shorter than others."""
    random = np.random.default_rng(seed_of(name))
    ids = random.integers(3, WORDS, (count, LENGTH))
    mask = np.ones_like(ids)
    mask[::2, LENGTH - 2 :] = 0
    ids[mask == 0] = 0
    return ids, mask


def export(model: Any, ids: Array, mask: Array, exporter: Exporter, path: Path) -> None:
    """Export with symbolic batch and length."""
    names = ["input_ids", "attention_mask"]
    options: dict[str, Any] = {"opset_version": OPSET, "input_names": names}
    axes = {0: "batch", 1: "length"}
    if exporter == "dynamo":
        dims = {0: torch.export.Dim("batch")}
        options |= {"dynamo": True, "dynamic_shapes": (dims, dims), "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": dict.fromkeys(names, axes)}
    export_quietly(model, (torch.tensor(ids), torch.tensor(mask)), path, options)


def torch_gradient(model: Any, ids: Array, mask: Array, labels: Array) -> tuple[Array, Array]:
    """Return the embedded ids and ∂loss/∂(embedded ids), by autograd."""
    kept: list[Any] = []

    def keep(module: Any, arguments: Any, output: Any) -> Any:
        if not kept and output.ndim == 3:
            leaf = output.detach().requires_grad_(True)
            kept.append(leaf)
            return leaf
        return output

    hook = model.classifier.get_input_embeddings().register_forward_hook(keep)
    try:
        logits = model(torch.tensor(ids), torch.tensor(mask))
    finally:
        hook.remove()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, kept)
    return kept[0].detach().numpy(), gradient.numpy()
