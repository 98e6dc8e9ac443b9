"""What a model's own metadata says of its inputs.

`Image.BitmapPixelFormat` and `Image.NominalPixelRange` are those of the ONNX specification
(docs/MetadataProps.md); `task` and `imgsz` are Ultralytics', whose classifiers are evaluated on
images whose shorter side is scaled to the model's size, and whose centre is cut out.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloakify.experiment.model_settings.found import FoundSettings

SOURCE = "the model's metadata"

_RANGES = {
    "NominalRange_0_255": (255.0, (0.0,)),
    "Normalized_0_1": (1.0, (0.0,)),
    "Normalized_1_1": (2.0, (1.0,)),
}


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
