"""Two whole reports, of made-up figures, with names that a test may choose."""

from __future__ import annotations

import numpy as np

from cloakify.evaluation import (
    EvaluationWarning,
    Figure,
    OverRandom,
    WarningCode,
    accuracy_figure,
    compare,
    gain_figure,
    judge,
    median_distance,
)
from cloakify.report import (
    Accuracy,
    AttackAccuracy,
    AttackInfo,
    Comparison,
    ControlFigures,
    Convergence,
    CurvePoint,
    DeviceInfo,
    EvaluateData,
    EvaluateReport,
    FileRef,
    HardenData,
    HardenReport,
    HeadInfo,
    MaskInfo,
    ModelEvaluation,
    ModelFigures,
    ModelGains,
    ModelVerdict,
    NoiseAccuracy,
    RobustAccuracy,
    Threat,
    TransferAccuracy,
)
from cloakify.report.records import THE_INPUT

SHA = "0123456789abcdef" * 4
N = 500


def _right(share: float) -> np.ndarray:
    return np.arange(N) < share * N


def _accuracy(share: float) -> Figure:
    return accuracy_figure(_right(share))


def _attack(name: str, steps: int, gradient: str = "white-box", **within: object) -> AttackInfo:
    return AttackInfo(name=name, steps=steps, gradient=gradient, **within)


def make_harden(
    name: str = "resnet", *, written: bool = True, control: bool = True
) -> HardenReport:
    """A report of a mask that moves static samples only; ``name`` goes wherever a name may."""
    source = {"clean": 0.924, "static": 0.31, "transfer": 0.042, "adaptive": 0.042}
    hardened = {"clean": 0.918, "static": 0.446, "transfer": 0.12, "adaptive": 0.044}
    random = {"clean": 0.92, "transfer": 0.06, "adaptive": 0.042}
    gain = {key: gain_figure(_right(hardened[key]), _right(source[key])) for key in source}
    over_random = OverRandom(
        transfer=gain_figure(_right(hardened["transfer"]), _right(random["transfer"])),
        adaptive=gain_figure(_right(hardened["adaptive"]), _right(random["adaptive"])),
    )
    return HardenReport(
        schema_version=1,
        cloakify_version="0.1.0",
        source=FileRef(f"models/{name}.onnx", SHA),
        output=FileRef(f"models/{name}.hardened.onnx", SHA) if written else None,
        device=DeviceInfo("CPUExecutionProvider"),
        head=HeadInfo(f"/{name}/fc/Gemm", "Gemm", "features", 512, "logits", 10),
        attack=_attack("fgsm", 1, norm="linf", eps=8 / 255),
        evaluation_attack=_attack("apgd", 100, norm="linf", eps=8 / 255),
        data=HardenData(f"data/{name}", SHA, 600, 200, N, "given"),
        mask=MaskInfo("deepcloak", "deepcloak", 0.01, 5, 512, (3, 40, 41, 300, 511), SHA),
        accuracy=Accuracy(
            source=ModelFigures(**{key: _accuracy(source[key]) for key in source}),
            hardened=ModelFigures(**{key: _accuracy(hardened[key]) for key in hardened}),
            gain=ModelGains(**gain),
            random_mask=ControlFigures(**{key: _accuracy(random[key]) for key in random})
            if control
            else None,
        ),
        verdict=judge(
            gain["adaptive"],
            static_gains=[gain["static"], gain["transfer"]],
            over_random=over_random if control else None,
        ),
        warnings=(EvaluationWarning(WarningCode.NEAR_COPIES, f"Copies of {name}", 0.25),),
        timing={"calibrate": 3.25, "evaluate": 41.5},
        perturbs=THE_INPUT,
        copies=None,
        command=f"cloakify harden models/{name}.onnx",
    )


def make_evaluate(*paths: str) -> EvaluateReport:
    """A report of two models and three budgets."""
    first, second = paths or ("a/resnet.onnx", "b/resnet.robust.onnx")
    budgets = (2 / 255, 4 / 255, 8 / 255)
    curves = {first: (0.93, 0.41, 0.12, 0.0), second: (0.88, 0.78, 0.62, 0.31)}

    def model(path: str) -> ModelEvaluation:
        clean, *robust = curves[path]
        apgd = tuple(min(clean, share + 0.02) for share in robust)
        return ModelEvaluation(
            model=FileRef(path, SHA),
            clean=_accuracy(clean),
            noise=tuple(NoiseAccuracy(eps, _accuracy(clean - 0.01)) for eps in budgets),
            robust=tuple(
                RobustAccuracy(
                    eps,
                    (AttackAccuracy("apgd", _accuracy(weak)),),
                    _accuracy(worst),
                )
                for eps, weak, worst in zip(budgets, apgd, robust, strict=True)
            ),
            curve=tuple(
                CurvePoint(eps, _accuracy(share))
                for eps, share in zip(
                    (0.0, *budgets, 16 / 255, 1.0), (*curves[path], 0.0, 0.0), strict=True
                )
            ),
            median_distance=median_distance(np.linspace(0, 0.04, N)),
            convergence=(
                Convergence("apgd", 8 / 255, 100, _accuracy(apgd[2]), _accuracy(apgd[2])),
            ),
            warnings=(EvaluationWarning(WarningCode.ZERO_GRADIENTS, f"{path} is flat", 0.5),),
            copies=(),
        )

    worst = compare(_right(0.31), _right(0.0))
    verdict = judge(worst.difference, subject="the second model")
    return EvaluateReport(
        schema_version=1,
        cloakify_version="0.1.0",
        device=DeviceInfo("CPUExecutionProvider"),
        threat=Threat("linf", budgets),
        attacks=(
            _attack("apgd", 100),
            _attack("square", 5000, gradient="gradient-free"),
        ),
        data=EvaluateData("test.npz", SHA, N, 10, "model"),
        models=(model(first), model(second)),
        transfer=(
            TransferAccuracy(first, second, 8 / 255, _accuracy(0.7)),
            TransferAccuracy(second, first, 8 / 255, _accuracy(0.6)),
        ),
        comparisons=(
            Comparison(first, second, "clean", None, compare(_right(0.88), _right(0.93))),
            Comparison(first, second, "worst_case", 8 / 255, worst),
        ),
        verdicts=(ModelVerdict(first, second, 8 / 255, verdict),),
        timing={},
        perturbs=THE_INPUT,
        copies=None,
    )
