"""Every option that says how to read a model, attack, mask, tune, judge and run: each once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from cloakify.settings.option import Group, Option
from cloakify.settings.option_types import (
    Count,
    Duration,
    File,
    Flag,
    Natural,
    Positive,
    Positives,
    Probability,
    Ratio,
    Share,
    Text,
)

# Clean accuracy that a mask may cost unless the user says otherwise.
DROP = 0.01

# Of harden and of evaluate.
TIME_BUDGET = (
    "Take this long at most, opening and looking included: where the effort would take longer on "
    "this machine, a smaller one is taken, or the run stops before it begins."
)

# In the order in which help lists them.
HEADINGS = (
    "Model",
    "Data and preprocessing",
    "Threat model",
    "Attack",
    "Masking",
    "Tuning (--method tuned)",
    "Evaluation",
    "Running",
    "Spreading and resuming",
    "Output",
    "Options from files",
)


class ModelOptions(Group, frozen=True, kw_only=True):
    """How to read the model."""

    heading: ClassVar[str] = "Model"

    head: Annotated[
        Text | None,
        Option("Take this linear node as the head, where it is not unique.", metavar="NODE"),
    ] = None
    output_name: Annotated[
        Text | None,
        Option("Of several outputs take this one as the model's answer.", metavar="OUTPUT"),
    ] = None
    attack_input: Annotated[
        Text | None,
        Option(
            "Of several inputs of floats attack this one, or these at once, separated by commas "
            "(all: all of them); INPUT=UNIT counts the budget in other units there. The others are "
            "passed along as the data have them.",
            metavar="INPUT,…",
        ),
    ] = None
    task: Annotated[
        Literal["auto", "single", "binary", "multilabel"],
        Option(
            "One of several classes is right, one of two by a single logit, or any of several "
            "labels; auto reads it off the graph."
        ),
    ] = "auto"
    threshold: Annotated[
        Probability | None,
        Option(
            "Probability from which on a single logit means class 1, or a label holds.",
            unset="what the graph compares it with, or 0.5",
        ),
    ] = None


class NormOptions(Group, frozen=True, kw_only=True):
    """How the size of a perturbation is measured."""

    heading: ClassVar[str] = "Threat model"

    norm: Annotated[
        Literal["linf", "l2"], Option("Norm in which the size of a perturbation is measured.")
    ] = "linf"


class ThreatOptions(NormOptions, frozen=True, kw_only=True):
    """What an attacker may do."""

    eps: Annotated[
        Positive,
        Option("Budget of a perturbation, on the data's scale.", metavar="EPS"),
    ] = 8 / 255


class BudgetOptions(NormOptions, frozen=True, kw_only=True):
    """What an attacker may do, by several budgets."""

    eps: Annotated[
        Positives,
        Option("Budgets on the data's scale, separated by commas.", metavar="EPS,…"),
    ] = (8 / 255,)


class AttackOptions(Group, frozen=True, kw_only=True):
    """An attack and its settings, where it has them."""

    heading: ClassVar[str] = "Attack"

    name: Annotated[
        Text,
        Option("Name of the attack.", flag="--attack", metavar="NAME"),
    ] = "pgd"
    steps: Annotated[
        Count | None, Option("Steps of --attack on a sample.", unset="the attack's own number")
    ] = None
    restarts: Annotated[
        Count | None,
        Option("How often --attack starts on a sample.", unset="the attack's own number"),
    ] = None
    step_size: Annotated[
        Positive | None,
        Option("Step size of --attack, on the data's scale.", unset="the attack's own"),
    ] = None


class CalibrationOptions(AttackOptions, frozen=True, kw_only=True):
    """The attack that calibrates, and its settings."""

    name: Annotated[
        Text,
        Option(
            "Attack on the source that a mask is calibrated on, and static accuracy is of. Gates "
            "are tuned under PGD instead; --evaluation-attack judges.",
            flag="--attack",
            metavar="NAME",
        ),
    ] = "fgsm"


class AttacksOptions(Group, frozen=True, kw_only=True):
    """Attacks that are run one after the other."""

    heading: ClassVar[str] = "Attack"

    names: Annotated[
        Text,
        Option(
            "Names of attacks, separated by commas; autoattack stands for the standard four. auto "
            "is apgd,apgd-t; in l2 with 60 steps or more apgd-multi,apgd-t.",
            flag="--attack",
            metavar="NAME,…",
        ),
    ] = "auto"
    steps: Annotated[
        Count | None,
        Option(
            "Steps of the attacks that follow the gradient.",
            unset="of Auto-PGD by effort, else each attack's own number",
        ),
    ] = None
    queries: Annotated[
        Count | None,
        Option(
            "Queries of the attacks that follow no gradient, and of the check by one.",
            unset="each attack's own number; of the check by effort",
        ),
    ] = None


class MaskingOptions(Group, frozen=True, kw_only=True):
    """How to harden, and how a mask before the head is chosen."""

    heading: ClassVar[str] = "Masking"

    method: Annotated[
        Literal["deepcloak", "tuned"],
        Option("Put a 0/1 mask before the head, or gates tuned through the whole network."),
    ] = "deepcloak"
    max_accuracy_drop: Annotated[
        Share,
        Option("Clean accuracy that a mask or gates may cost on the select split."),
    ] = DROP
    score: Annotated[
        Literal["auto", "deepcloak", "margin", "greedy", "relaxed"],
        Option(
            "What ranks the features; auto compares all rankings under an adaptive attack.",
            method="deepcloak",
        ),
    ] = "auto"
    rounds: Annotated[
        Count | None,
        Option(
            "How often auto ranks; from the second time on it knows attacks on its own mask.",
            unset="by effort",
            method="deepcloak",
        ),
    ] = None
    ratio: Annotated[
        Ratio | None,
        Option(
            "Share of the features to mask; auto looks at every size.",
            flag="--mask-ratio",
            none="auto",
            method="deepcloak",
        ),
    ] = None
    replace: Annotated[
        Flag,
        Option("Take the mask of a hardened model out first.", flag="--replace-mask"),
    ] = False


class TuningOptions(Group, frozen=True, kw_only=True):
    """How gates are tuned, and put into the graph."""

    heading: ClassVar[str] = "Tuning (--method tuned)"

    emit: Annotated[
        Literal["mul", "fold"],
        Option(
            "Put gates in as nodes, Mul and Add, or fold them into the weights before them.",
            method="tuned",
        ),
    ] = "mul"
    gates: Annotated[
        Literal["auto", "channel", "position"],
        Option(
            "Tune a gate for each channel, or for each position of an image's channels; auto takes "
            "positions where they stay in the graph and are no more than two million.",
            method="tuned",
        ),
    ] = "auto"
    shifts: Annotated[
        Flag,
        Option(
            "Beside each gate tune a shift, which is added to what the layer puts out (unless "
            "taken back: then a gate on the layer's bias).",
            method="tuned",
        ),
    ] = True
    layers: Annotated[
        Text,
        Option(
            "Layers to tune; a pattern such as 'stage3*' is matched with node names.",
            flag="--tune-layers",
            metavar="all|last|PATTERN",
            method="tuned",
        ),
    ] = "all"
    steps: Annotated[
        Count | None,
        Option(
            "Steps of the optimiser that tunes gates, of a batch of samples each.",
            flag="--tune-steps",
            also=("--steps-tune",),
            unset="by effort: 430, 1,300 or 2,600",
            method="tuned",
        ),
    ] = None
    binary: Annotated[Flag, Option("Tune gates of 0 or 1 only.", method="tuned")] = False
    state: Annotated[
        File | None,
        Option(
            "Keep the state of the tuning here; a stopped run goes on from it.",
            flag="--tune-state",
            metavar="FILE.npz",
            method="tuned",
            written=(".npz",),
        ),
    ] = None


class EvaluationOptions(Group, frozen=True, kw_only=True):
    """How the hardened model is judged."""

    heading: ClassVar[str] = "Evaluation"

    effort: Annotated[
        Literal["quick", "standard", "thorough"],
        Option("How much work goes into the choice of a mask or of gates, and into the figures."),
    ] = "standard"
    time_budget: Annotated[Duration | None, Option(TIME_BUDGET)] = None
    attack: Annotated[
        Literal["auto", "apgd", "apgd-dlr", "apgd-multi", "apgd-t"],
        Option(
            "Attack that judges source and result; auto is apgd, in l2 apgd-multi, or apgd-dlr "
            "where logits are small, or those of labels.",
            flag="--evaluation-attack",
        ),
    ] = "auto"
    steps: Annotated[
        Count | None,
        Option(
            "Steps of --evaluation-attack on a sample.",
            flag="--evaluation-steps",
            unset="by effort: 10, 20 (in l2 60) or 100",
        ),
    ] = None
    precision: Annotated[
        Positive | None,
        Option(
            "Report on as many samples as make an accuracy's interval reach this many points to "
            "either side, if there are so many.",
            metavar="POINTS",
            unset="by effort: 10, 3 or 2",
        ),
    ] = None
    report_limit: Annotated[
        Count | None,
        Option("Report on at most this many samples.", unset="by precision"),
    ] = None
    require_gain: Annotated[
        Share | None,
        Option("Write no file, and exit with 1, where the adaptive gain is smaller than this."),
    ] = None
    write_anyway: Annotated[
        Flag,
        Option(
            "Write the file and exit with 0 where cloakify chose the mask or the gates and the "
            "verdict is not that they harden; without, only the report is written, and 1 is the "
            "exit code."
        ),
    ] = False


class ComparisonOptions(Group, frozen=True, kw_only=True):
    """How thoroughly models are compared, and what they have to reach."""

    heading: ClassVar[str] = "Evaluation"

    effort: Annotated[
        Literal["quick", "standard", "thorough"],
        Option(
            "How much work goes into the figures: steps and target classes of Auto-PGD, and on how "
            "many samples it is checked; autoattack stays as it is."
        ),
    ] = "standard"
    other_threats: Annotated[
        Flag,
        Option(
            "Tell as well what the models withstand in the other norm, in a ball as large, and, of "
            "images, under noise, blur, less contrast and JPEG."
        ),
    ] = False
    time_budget: Annotated[Duration | None, Option(TIME_BUDGET)] = None
    require_gain: Annotated[
        Share | None,
        Option(
            "Exit with 1 where a model gains less than this over the first one in worst-case "
            "accuracy at the largest budget."
        ),
    ] = None


class DeviceOptions(Group, frozen=True, kw_only=True):
    """Where the model is run."""

    heading: ClassVar[str] = "Running"

    device: Annotated[
        Text,
        Option(
            "Where to run the model; openvino and tensorrt run the model, and gradients the CPU "
            "and CUDA.",
            metavar="auto|cpu|cuda[:N]|openvino|tensorrt[:N]",
        ),
    ] = "auto"
    threads: Annotated[
        Count | None,
        Option("Run the model on this many cores of the host.", unset="all it may use"),
    ] = None


class RunOptions(DeviceOptions, frozen=True, kw_only=True):
    """Where and how the model is run."""

    batch_size: Annotated[
        Count | None,
        Option(
            "Samples in one run of the model; on a CPU each core has a run of its own.",
            unset="by size, 64 at most",
        ),
    ] = None
    tf32: Annotated[
        Flag,
        Option(
            "Let a GPU round the factors of products to TensorFloat-32: faster, and no longer what "
            "the model computes on a CPU."
        ),
    ] = False
    seed: Annotated[Natural, Option("Seed of splits, limits, random starts and controls.")] = 0
