"""What a model's own metadata says of its inputs.

`Image.BitmapPixelFormat` and `Image.NominalPixelRange` are those of the ONNX specification
(docs/MetadataProps.md); `task` and `imgsz` are Ultralytics', whose classifiers are evaluated on
images whose shorter side is scaled to the model's size, and whose centre is cut out. Hardened files
say how their sources' inputs are made (:mod:`cloakify.onnxfile.preprocessing_entry`).
"""

from __future__ import annotations

from collections.abc import Mapping

from cloakify.experiment.model_settings.found import FoundSettings
from cloakify.onnxfile.metadata import METADATA_PREFIX
from cloakify.onnxfile.preprocessing_entry import KEY, read_entry

SOURCE = "the model's metadata"
OWN = "the metadata of the hardened model"

_RANGES = {
    "NominalRange_0_255": (255.0, (0.0,)),
    "Normalized_0_1": (1.0, (0.0,)),
    "Normalized_1_1": (2.0, (1.0,)),
}


def read_own(metadata: Mapping[str, str]) -> FoundSettings | None:
    """Return what a hardened file says of its source's inputs; ``None`` where it says nothing."""
    entry = read_entry(metadata.get(METADATA_PREFIX + KEY, ""))
    if entry is None:
        return None
    return FoundSettings(
        OWN,
        scale=entry.scale,
        mean=entry.mean,
        std=entry.std,
        resize=entry.resize,
        resize_to=entry.resize_to,
        crop_pct=entry.crop_pct,
        interpolation=entry.interpolation,
        cut=entry.cut,
        fill=entry.fill,
        channels=entry.channels,
    )


def read_pixels(metadata: Mapping[str, str]) -> FoundSettings | None:
    """Return what metadata says of the pixels; ``None`` where it says nothing."""
    order = metadata.get("Image.BitmapPixelFormat", "")
    pixels = _RANGES.get(metadata.get("Image.NominalPixelRange", ""))
    if pixels is not None or order:
        scale, mean = pixels or (255.0, (0.0,))
        return FoundSettings(
            SOURCE, scale=scale, mean=mean, channels="bgr" if order.startswith("Bgr") else "rgb"
        )
    if metadata.get("task") == "classify" and "imgsz" in metadata:
        return FoundSettings(SOURCE, scale=1.0, resize="crop", interpolation="bilinear")
    return None
