"""One classifier for each family (module) of timm: its smallest, at the smallest input it takes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from tests.compat.support.oracle import randomise, seed_of
from tests.compat.support.torchvision_ops import torchvision

_SIZE = 64
# Some families are encoders, which have a head only where classes are asked for.
_CLASSES = 10
# Too large otherwise; all its blocks are alike.
_SETTINGS: dict[str, dict[str, Any]] = {"deepseek_vit_412m": {"depth": 2}}

FAMILIES: dict[str, tuple[str, int]] = {
    "beit": ("beit_base_patch16_224", _SIZE),
    "byoanet": ("botnet26t_256", _SIZE),
    "byobnet": ("eca_resnet33ts", _SIZE),
    "cait": ("cait_xxs24_224", _SIZE),
    "coat": ("coat_lite_tiny", _SIZE),
    "convit": ("convit_tiny", _SIZE),
    "convmixer": ("convmixer_768_32", _SIZE),
    "convnext": ("convnext_atto", _SIZE),
    "cpubone": ("cpubone_t0", _SIZE),
    "crossvit": ("crossvit_tiny_240", 240),
    "csatv2": ("csatv2", _SIZE),
    "cspnet": ("cs3darknet_focus_s", _SIZE),
    "cspnext": ("cspnext_tiny", _SIZE),
    "davit": ("davit_tiny", _SIZE),
    "deepseek_vit": ("deepseek_vit_412m", 224),
    "deit": ("deit_tiny_patch16_224", _SIZE),
    "densenet": ("densenet121", _SIZE),
    "dla": ("dla46x_c", _SIZE),
    "dpn": ("dpn48b", _SIZE),
    "edgenext": ("edgenext_xx_small", _SIZE),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", _SIZE),
    "efficientnet": ("tinynet_e", _SIZE),
    "efficientvim": ("efficientvim_m1", _SIZE),
    "efficientvit_mit": ("efficientvit_b0", _SIZE),
    "efficientvit_msra": ("efficientvit_m0", _SIZE),
    "eva": ("eva02_tiny_patch14_224", _SIZE),
    "fasternet": ("fasternet_t0", _SIZE),
    "fastvit": ("fastvit_t8", _SIZE),
    "focalnet": ("focalnet_tiny_srf", _SIZE),
    "gcvit": ("gcvit_xxtiny", _SIZE),
    "gemma4_vit": ("gemma4_vit_167m", _SIZE),
    "ghostnet": ("ghostnet_050", _SIZE),
    "hardcorenas": ("hardcorenas_a", _SIZE),
    "hgnet": ("hgnet_tiny", _SIZE),
    "hiera": ("hiera_tiny_224", _SIZE),
    "hieradet_sam2": ("sam2_hiera_tiny", _SIZE),
    "hrnet": ("hrnet_w18_small", _SIZE),
    "iformer": ("iformer_t", _SIZE),
    "inception_next": ("inception_next_atto", _SIZE),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", _SIZE),
    "levit": ("levit_128s", _SIZE),
    "lowformer": ("lowformer_b0", _SIZE),
    "mambaout": ("test_mambaout", _SIZE),
    "maxxvit": ("test_coatnet", _SIZE),
    "metaformer": ("poolformerv2_s12", _SIZE),
    "mlp_mixer": ("gmlp_ti16_224", _SIZE),
    "mobilenetv3": ("mobilenetv3_small_050", _SIZE),
    "mobilenetv5": ("mobilenetv5_300m", _SIZE),
    "mobilevit": ("mobilevit_xxs", _SIZE),
    "mvitv2": ("mvitv2_tiny", _SIZE),
    "naflexvit": ("naflexvit_base_patch16_gap", _SIZE),
    "nasnet": ("nasnetalarge", _SIZE),
    "nest": ("nest_tiny", _SIZE),
    "nextvit": ("nextvit_small", _SIZE),
    "nfnet": ("test_nfnet", _SIZE),
    "pit": ("pit_ti_224", _SIZE),
    "pnasnet": ("pnasnet5large", _SIZE),
    "pvt_v2": ("pvt_v2_b0", _SIZE),
    "qwen3_vit": ("qwen3_vit_88m", _SIZE),
    "rdnet": ("rdnet_tiny", _SIZE),
    "regnet": ("regnetx_002", _SIZE),
    "repghost": ("repghostnet_050", _SIZE),
    "repvit": ("repvit_m0_9", _SIZE),
    "res2net": ("res2net50_14w_8s", _SIZE),
    "resnest": ("resnest14d", _SIZE),
    "resnet": ("resnet10t", _SIZE),
    "resnetv2": ("resnetv2_18", _SIZE),
    "rexnet": ("rexnet_100", _SIZE),
    "selecsls": ("selecsls42", _SIZE),
    "senet": ("legacy_seresnet18", _SIZE),
    "sequencer": ("sequencer2d_s", _SIZE),
    "shvit": ("shvit_s1", _SIZE),
    "sknet": ("skresnet18", _SIZE),
    "starnet": ("starnet_s050", _SIZE),
    "swiftformer": ("swiftformer_xs", _SIZE),
    "swin_transformer": ("swin_tiny_patch4_window7_224", _SIZE),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", _SIZE),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", _SIZE),
    "tiny_vit": ("tiny_vit_5m_224", _SIZE),
    "tnt": ("tnt_s_patch16_224", _SIZE),
    "tresnet": ("tresnet_m", _SIZE),
    "twins": ("twins_svt_small", _SIZE),
    "vgg": ("vgg11", _SIZE),
    "visformer": ("visformer_tiny", _SIZE),
    "vision_transformer": ("vit_tiny_patch16_224", _SIZE),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", _SIZE),
    "vision_transformer_relpos": ("test_vit_relpos", _SIZE),
    "vision_transformer_sam": ("samvit_base_patch16_224", _SIZE),
    "vitamin": ("vitamin_small_224", _SIZE),
    "volo": ("volo_d1_224", _SIZE),
    "vovnet": ("ese_vovnet19b_slim", _SIZE),
    "xception": ("legacy_xception", _SIZE),
    "xception_aligned": ("xception41", _SIZE),
    "xcit": ("xcit_nano_12_p16_224", _SIZE),
}


def timm() -> ModuleType:
    """Return timm, or skip where there is none."""
    torchvision()
    return pytest.importorskip("timm", reason="timm is not installed")


def families() -> list[str]:
    """Return all families of the installed timm."""
    return timm().list_modules()


def make(family: str) -> tuple[Any, int]:
    """Return a model with random weights, and the side of its input."""
    if family not in FAMILIES:
        pytest.skip("no model of this family is listed")
    name, size = FAMILIES[family]
    torch.manual_seed(seed_of(name))
    settings = {"num_classes": _CLASSES} | _SETTINGS.get(name, {})
    try:
        model = timm().create_model(name, img_size=size, **settings)
    except TypeError:
        # Convolutional families take every size, and no argument for it.
        model = timm().create_model(name, **settings)
    return randomise(model, seed_of(name)), size
