"""What a user may set, with the defaults; the command line's options in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from cloakify.attacks import Attack
from cloakify.attacks.registry import make_attack
from cloakify.errors import UsageError

# Queries of Square for a step of Auto-PGD: 5,000 and 100 make AutoAttack's standard settings.
QUERIES_A_STEP = 50

# Clean accuracy that a mask may cost unless the user says otherwise.
DROP = 0.01

# Samples in the fit split; below, many gates would learn it by heart and tuning has to prevent it.
FEW_SAMPLES = 2000

# The least value of numbers that count something; None, where it may be, leaves the choice.
LEAST = {
    "seed": 0,
    "limit": 1,
    "batch_size": 1,
    "steps": 1,
    "queries": 1,
    "rounds": 1,
    "evaluation_steps": 1,
    "report_limit": 1,
    "tune_steps": 1,
}
# Fractions of all samples: 1 is a hundred points.
FRACTIONS = ("max_accuracy_drop", "require_gain")
# What only one of the methods has a use for.
OF_METHOD = {
    "tuned": ("emit", "gates", "tune_steps", "tune_layers", "binary", "tune_state"),
    "deepcloak": ("score", "rounds", "mask_ratio"),
}
# Options that are not called as their fields are.
OPTIONS = {"tune_steps": "--steps-tune"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How to read the data and run the model; shared by all verbs that attack.

    Making one raises UsageError for a value that no verb could have a use for.

    Attributes
    ----------
    head
        Name of the head's node where it is not unique.
    labels
        ``given``, or ``model``: the source model's own answers are the labels.
    limit
        Use at most so many samples.
    scale, mean, std
        Preprocessing as typed: the model takes ``(pixel·scale − mean)/std``, pixels in [0, 1].
    box
        Range of valid data in data units; ``None`` for none.
    resize
        What to do with images that are not of the model's size: ``crop``, ``stretch``, ``refuse``.
    norm, eps
        The threat model; ε in data units.
    batch_size
        Samples in one run of a session; ``None``: what suits their size and the device.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    seed
        Of splits, limits, random starts and controls.
    """

    head: str | None = None
    labels: Literal["given", "model"] = "given"
    limit: int | None = None
    scale: str = "1"
    mean: str = "0"
    std: str = "1"
    box: tuple[float, float] | None = (0.0, 1.0)
    resize: Literal["crop", "stretch", "refuse"] = "crop"
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 8 / 255
    batch_size: int | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                listed = ", ".join(map(repr, get_args(hint)))
                raise UsageError(f"{name} is one of {listed}; not {value!r}")
            if hint is str and not isinstance(value, str):
                raise UsageError(f"{name} takes text, as the command line does; not {value!r}")
            if hint is float and not isinstance(value, Real):
                raise UsageError(f"{name} takes a number; not {value!r}")
            if name in FRACTIONS and value is not None and not -1 <= value <= 1:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} takes a fraction, 0.05 for five points; not {value:g}")
            least = LEAST.get(name)
            if least is None or (value is None and hint is not int):
                continue
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} takes a whole number from {least} on; not {value!r}")


@dataclass(frozen=True, kw_only=True)
class AttackSetting(Setting):
    """Which attack to run.

    Attributes
    ----------
    attack
        Its name.
    steps, step_size
        Its settings, where it has them; ``step_size`` in data units.
    """

    attack: str = "pgd"
    steps: int | None = None
    step_size: float | None = None

    def make_attack(self, *, stop_early: bool = True) -> Attack:
        """Return the attack; without ``stop_early`` every sample goes as far as the attack goes."""
        return make_attack(
            self.attack,
            steps=self.steps,
            step_size=self.step_size,
            stop_early=stop_early,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class HardenSetting(AttackSetting):
    """How to harden; the attack is that of the calibration.

    Attributes
    ----------
    score
        What ranks the features; ``auto`` compares all rankings under an adaptive attack.
    rounds
        How often ``auto`` ranks: from the second time on, samples attacked on the best mask so far
        are known too.
    mask_ratio
        Share of the features to mask; ``None`` looks at every size.
    max_accuracy_drop
        How much clean accuracy a mask chosen so may cost on the select split.
    evaluation
        Which Auto-PGD judges the result; ``auto`` is that on the cross-entropy, or where logits are
        too small for it that on the difference of logits ratio.
    evaluation_steps
        Its steps.
    report_limit
        Report on at most so many samples; 2,000 tell an accuracy to about two points.
    replace_mask
        Take out the mask of an already hardened model first.
    require_gain
        Least adaptive gain, as a fraction; with less no file is written.
    method
        ``deepcloak``: a 0/1 mask before the head. ``tuned``: gates on the channels of every layer.
    emit
        Tuned gates as ``mul`` nodes, or ``fold``: multiplied into the weights before them.
    gates
        One gate a ``channel``, or one at every ``position`` of a channel of an image.
    tune_steps
        Steps of the tuning; ``None`` for as many as suit the data.
    tune_layers
        Which layers to tune: ``all``, ``last``, or a shell pattern of their names.
    binary
        Tune gates of 0 or 1 only.
    tune_state
        File to keep the state of the tuning in; a stopped run goes on from it.
    """

    attack: str = "fgsm"
    method: Literal["deepcloak", "tuned"] = "deepcloak"
    emit: Literal["mul", "fold"] = "mul"
    gates: Literal["channel", "position"] = "channel"
    tune_steps: int | None = None
    tune_layers: str = "all"
    binary: bool = False
    tune_state: Path | None = None
    score: str = "auto"
    rounds: int = 2
    mask_ratio: float | None = None
    max_accuracy_drop: float = DROP
    evaluation: Literal["auto", "apgd", "apgd-dlr", "apgd-t"] = "auto"
    evaluation_steps: int = 40
    report_limit: int = 2000
    replace_mask: bool = False
    require_gain: float | None = None

    def __post_init__(self) -> None:
        """Check the values, and that the method has a use for them."""
        if isinstance(self.tune_state, str):
            object.__setattr__(self, "tune_state", Path(self.tune_state))
        super().__post_init__()
        if self.mask_ratio is not None and self.max_accuracy_drop != DROP:
            raise UsageError("--max-accuracy-drop chooses a mask's size, which --mask-ratio gives")
        for method, names in OF_METHOD.items():
            for field in fields(self):
                idle = field.name in names and method != self.method
                if idle and getattr(self, field.name) != field.default:
                    option = OPTIONS.get(field.name, "--" + field.name.replace("_", "-"))
                    raise UsageError(f"{option} is for --method {method}, not {self.method}")

    def evaluation_attack(self, *, stop_early: bool, steps: int | None = None) -> Attack:
        """Return the attack that judges the result: Auto-PGD.

        Where the calibration attack needs no gradient the model may have none, and Square takes its
        place, with as many queries for each step as an iteration and its bookkeeping would cost.

        Parameters
        ----------
        stop_early
            As in :class:`~cloakify.attacks.Apgd`.
        steps
            ``evaluation_steps`` when left out.
        """
        steps = self.evaluation_steps if steps is None else steps
        if not self.white_box:
            return make_attack("square", steps=QUERIES_A_STEP * steps, seed=self.seed)
        name = "apgd" if self.evaluation == "auto" else self.evaluation
        return make_attack(name, steps=steps, stop_early=stop_early, seed=self.seed)

    @property
    def white_box(self) -> bool:
        """Whether the calibration attack follows the gradient."""
        return self.make_attack().gradient == "white-box"

    def mixes(self, samples: int) -> bool:
        """Return whether gates are tuned on mixtures, with so many samples in the fit split.

        Gates of positions are so many that they would fit a thousand samples by heart; of
        thousands, mixtures tell nothing new and cost some accuracy. Gates of channels are too few
        for either.
        """
        return self.gates == "position" and samples < FEW_SAMPLES

    def missed_gate(self, adaptive_gain: float) -> str | None:
        """Return the gate that an adaptive gain misses, as a sentence, or ``None``."""
        if self.require_gain is None or adaptive_gain >= self.require_gain:
            return None
        return (
            f"the adaptive gain is {100 * adaptive_gain:+.1f} points, --require-gain asks for "
            f"{100 * self.require_gain:+.1f}; no model was written"
        )


@dataclass(frozen=True, kw_only=True)
class EvaluateSetting(Setting):
    """How to evaluate; ``eps`` is not used, ``budgets`` take its place.

    Attributes
    ----------
    attack
        Names, separated by commas; ``autoattack`` stands for its four.
    budgets
        Values of ε in data units.
    steps
        Steps of the attacks that follow the gradient, where they take them.
    queries
        Queries of gradient-free attacks, and of the check by one where none was asked for.
    require_gain
        Least gain in worst-case accuracy over the first model at the largest budget, as a fraction.
    """

    attack: str = "apgd,apgd-t"
    budgets: tuple[float, ...] = (8 / 255,)
    steps: int | None = None
    queries: int | None = None
    require_gain: float | None = None
