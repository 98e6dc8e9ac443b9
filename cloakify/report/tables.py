"""The tables of a report as plain rows, shared by the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from cloakify.evaluation.warnings import HARMLESS, EvaluationWarning
from cloakify.report import wording
from cloakify.report.comparison import Comparison, EvaluateReport
from cloakify.report.records import HardenReport, LabelAccuracy, Labels


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of the same width, and lines that explain them.

    The row whose first cell is ``key`` is the one that decides.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    key: str | None = None


def tables(report: HardenReport | EvaluateReport) -> tuple[Table, ...]:
    """Return all tables of a report, the most important first."""
    if isinstance(report, HardenReport):
        made = (harden_table(report), harden_labels_table(report))
        return tuple(table for table in made if table.rows)
    every = (
        accuracy_table(report),
        labels_table(report),
        others_table(report),
        comparison_table(report),
        attack_table(report),
        curve_table(report),
        transfer_table(report),
        convergence_table(report),
    )
    return tuple(table for table in every if table.rows)


def harden_table(report: HardenReport) -> Table:
    """Clean, static, transfer and adaptive: source, hardened, gain, random mask."""
    accuracy, control = report.accuracy, report.accuracy.random_mask
    header = ["in %", "source", "hardened", "gain, points"]
    rows = [
        [name, wording.percent(source), wording.percent(hardened), wording.points(gain)]
        for name, source, hardened, gain in (
            (
                name,
                *(
                    getattr(part, name)
                    for part in (accuracy.source, accuracy.hardened, accuracy.gain)
                ),
            )
            for name in ("clean", "static", "transfer", "adaptive")
        )
    ]
    if control is not None:
        header.append("random")
        for row in rows:
            figure = getattr(control, row[0], None)
            row.append("" if figure is None else f"{100 * figure.value:.1f}")
    judge = wording.attack(report.evaluation_attack)
    random = "a random mask of the same size"
    if report.mask.method == "tuned":
        random = "the same gates in random order within each layer"
    notes = (
        *_doubt("the figures of the hardened model", report.warnings),
        f"In brackets: 95 % intervals. {report.data.report} samples, on which nothing was chosen.",
        *([f"random: {random}"] if control is not None else []),
        f"static: {_static(report)}",
        f"transfer: crafted on the source with {judge}",
        f"adaptive: crafted on each model itself with {judge}. Only this one is robustness.",
        *_agreement(report.data.labels, "model's"),
    )
    return Table("Accuracy", tuple(header), tuple(map(tuple, rows)), notes, key="adaptive")


def _doubt(what: str, warnings: Sequence[EvaluationWarning]) -> Iterator[str]:
    """Say right below figures whether anything puts them in doubt, and by which codes."""
    codes = [warning.code for warning in warnings if warning.code not in HARMLESS]
    if codes:
        told = ", ".join(codes)
        yield f"In doubt: {what} may be too high, as the warnings say ({told})."


def harden_labels_table(report: HardenReport) -> Table:
    """How independent labels fare one by one: source and hardened, clean and attacked."""
    if report.labels is None:
        return Table("Labels", (), ())
    return _labels_table({"source": report.labels.source, "hardened": report.labels.hardened})


def labels_table(report: EvaluateReport) -> Table:
    """How independent labels fare one by one: every model, clean and attacked."""
    names = model_names(report)
    return _labels_table(
        {names[entry.model.path]: entry.labels for entry in report.models if entry.labels}
    )


def others_table(report: EvaluateReport) -> Table:
    """What every model withstands that was not asked for."""
    names = model_names(report)
    asked = {names[entry.model.path]: entry.others for entry in report.models if entry.others}
    columns: dict[str, list[str]] = {}
    for others in asked.values():
        norm = others.norm
        told = f"{norm.norm} {wording.budget(norm.eps)}, {norm.attack}"
        columns.setdefault(told, []).append(wording.percent(norm.accuracy))
        for each in others.corruptions:
            told = f"{each.corruption} {each.strength:g}"
            columns.setdefault(told, []).append(wording.percent(each.accuracy))
    rows = tuple((told, *cells) for told, cells in columns.items())
    notes = (
        "In %. The ball of the other norm is as large as that of the largest budget. noise: the "
        "standard deviation, of pixels in [0, 1]; blur: in pixels; contrast: what is left of it; "
        "jpeg: the quality.",
    )
    return Table("Other threats", ("", *asked), rows, notes)


def _labels_table(models: Mapping[str, LabelAccuracy]) -> Table:
    """Return the mean accuracy of labels and their mean average precision, a row for each."""
    rows = []
    for name, measured in models.items():
        for side, figures in (("clean", measured.clean), ("attacked", measured.attacked)):
            precision = figures.mean_average_precision
            ranked = "" if precision is None else wording.percent(precision)
            rows.append((name, side, wording.percent(figures.accuracy), ranked))
    attacks = {f"{each.attack} at {wording.budget(each.eps)}" for each in models.values()}
    notes = (
        "In %. An exact match, which accuracy means elsewhere, is lost with one label; here every "
        f"label counts. attacked: driven to the highest sum of losses by {', '.join(attacks)}.",
    )
    header = ("model", "samples", "accuracy of labels", "mean average precision")
    return Table("Labels", header, tuple(rows), notes)


def accuracy_table(report: EvaluateReport) -> Table:
    """One column a model: clean, the worst case at every budget, the median distance."""
    names = model_names(report)
    rows = [("clean", *(wording.percent(entry.clean) for entry in report.models))]
    worst = [
        {robust.eps: wording.percent(robust.worst_case) for robust in entry.robust}
        for entry in report.models
    ]
    for eps in report.threat.eps:
        cells = (figures.get(eps, "") for figures in worst)
        rows.append((f"worst case {wording.budget(eps)}", *cells))
    for place, within in enumerate(report.copies.within if report.copies else ()):
        on_copies = [entry.copies[place].accuracy for entry in report.models]
        cells = ("none count" if part is None else wording.percent(part) for part in on_copies)
        rows.append((f"given copies {wording.budget(within.eps)}", *cells))
    medians = [entry.median_distance for entry in report.models]
    if any(median is not None for median in medians):
        texts = ("" if median is None else wording.distance(median) for median in medians)
        rows.append(("median distance", *texts))
    doubts = (
        _doubt(f"the figures of {names[entry.model.path]}", entry.warnings)
        for entry in report.models
    )
    notes = (
        *chain(*doubts),
        f"In brackets: 95 % intervals. {report.data.samples} samples, {report.threat.norm}.",
        f"worst case: right under everything that was tried on the sample: {_tried(report)}",
        *_copies_notes(report),
        *_agreement(report.data.labels, "first model's"),
    )
    return Table(
        "Accuracy",
        ("in %", *(names[entry.model.path] for entry in report.models)),
        tuple(rows),
        notes,
    )


def comparison_table(report: EvaluateReport) -> Table:
    """Differences from the baseline on the same samples, with the exact McNemar test."""
    names = model_names(report)
    rows = tuple(
        (
            names[entry.model],
            _measure(entry),
            wording.points(entry.paired.difference),
            f"{entry.paired.gained} / {entry.paired.lost}",
            wording.p_value(entry.paired.p_value),
        )
        for entry in report.comparisons
    )
    baseline = names[report.models[0].model.path]
    header = ("model", "measure", "difference, points", "gained / lost", "p (McNemar)")
    notes = (
        "Paired on the same samples; an interval excludes 0 just where p is below 0.05. transfer: "
        "crafted on the baseline, tried on the model.",
    )
    return Table(f"Differences from {baseline}", header, rows, notes)


def attack_table(report: EvaluateReport) -> Table:
    """Accuracy under random noise and after every attack, one column a model."""
    names = model_names(report)
    noise: dict[tuple[float, str], list[str]] = {}
    attacks: dict[tuple[float, str], list[str]] = {}
    for entry in report.models:
        for noisy in entry.noise:
            noise.setdefault((noisy.eps, "noise"), []).append(wording.percent(noisy.accuracy))
        for robust in entry.robust:
            for single in robust.attacks:
                cells = attacks.setdefault((robust.eps, single.attack), [])
                cells.append(wording.percent(single.accuracy))
    ordered = sorted((noise | attacks).items(), key=lambda row: row[0][0])
    rows = tuple((wording.budget(eps), attack, *cells) for (eps, attack), cells in ordered)
    header = ("eps", "attack", *(names[entry.model.path] for entry in report.models))
    notes = ("In %. Each attack goes on where those above it, and smaller budgets, have failed.",)
    return Table("Attack by attack", header, rows, notes)


def transfer_table(report: EvaluateReport) -> Table:
    """Accuracy of every model on samples crafted against every other."""
    names = model_names(report)
    rows = tuple(
        (
            names[entry.crafted_on],
            names[entry.tried_on],
            wording.budget(entry.eps),
            wording.percent(entry.accuracy),
        )
        for entry in report.transfer
    )
    return Table("Transfer", ("crafted on", "tried on", "eps", "accuracy, %"), rows)


def convergence_table(report: EvaluateReport) -> Table:
    """What doubling the steps of an attack changes."""
    names = model_names(report)
    rows = tuple(
        (
            names[entry.model.path],
            f"{run.attack}, {wording.budget(run.eps)}",
            f"{run.steps}: {wording.percent(run.accuracy)}",
            f"{2 * run.steps}: {wording.percent(run.doubled_accuracy)}",
            f"{100 * (run.doubled_accuracy.value - run.accuracy.value) + 0.0:+.1f}",
        )
        for entry in report.models
        for run in entry.convergence
    )
    header = ("model", "attack", "steps: accuracy, %", "doubled: accuracy, %", "change, points")
    return Table("Convergence", header, rows)


def curve_table(report: EvaluateReport) -> Table:
    """Return the worst case of every model from no budget to none that bounds."""
    names = model_names(report)
    curves = [
        {point.eps: wording.percent(point.accuracy) for point in entry.curve}
        for entry in report.models
    ]
    largest = max(report.threat.eps)
    budgets = sorted({eps for curve in curves for eps in curve if eps > largest})
    rows = tuple(
        (wording.budget(eps), *(curve.get(eps, "") for curve in curves)) for eps in budgets
    )
    header = ("eps", *(names[entry.model.path] for entry in report.models))
    notes = (
        f"Worst case in %, continued by {report.attacks[0].name} alone until it is down to chance "
        f"({100 * report.data.chance:.1f} %), and without a bound.",
    )
    return Table("Beyond the budgets", header, rows, notes)


def model_names(report: EvaluateReport) -> dict[str, str]:
    """Map each model's path to the name that the tables use."""
    return wording.short_names([entry.model.path for entry in report.models])


def _measure(entry: Comparison) -> str:
    measure = entry.measure.replace("_", " ")
    return measure if entry.eps is None else f"{measure} {wording.budget(entry.eps)}"


def _static(report: HardenReport) -> str:
    if report.copies is not None:
        (within,) = report.copies.within
        beyond = f", {within.outside_ball} of them beyond the budget" * (within.outside_ball > 0)
        return f"on the attacked copies that were given{beyond}"
    return f"crafted on the source with {wording.attack(report.attack)}"


def _tried(report: EvaluateReport) -> str:
    """List what the worst case counts."""
    tried = [f"{attack.name} ({attack.steps} steps)" for attack in report.attacks]
    if any(entry.convergence for entry in report.models):
        tried.append(f"{report.attacks[0].name} with twice its steps")
    if len(report.models) > 1:
        tried.append("samples crafted on the other models")
    if report.copies is not None:
        tried.append("given copies")
    tried.append("random noise")
    searched = {entry.median_distance.n for entry in report.models if entry.median_distance}
    if searched:
        some = min(searched)
        of = "" if some == report.data.samples else f" (of {some} samples)"
        tried.append(f"the search for the nearest misclassified point{of}")
    smaller = ", and all this at smaller budgets" if len(report.threat.eps) > 1 else ""
    return ", ".join(tried) + smaller


def _copies_notes(report: EvaluateReport) -> Sequence[str]:
    """Say which of the given copies count."""
    if report.copies is None:
        return ()
    counts = "; ".join(
        f"{wording.budget(at.eps)}: {at.counted} of {report.data.samples} count, {at.outside_ball} "
        f"lie outside the budget, {at.outside_box} outside the box"
        for at in report.copies.within
    )
    return (f"given copies: {report.copies.path}, {counts}",)


def _agreement(labels: Labels, whose: str) -> Sequence[str]:
    if labels == "given":
        return ()
    return (f"No labels were given: accuracy means agreement with the {whose} clean prediction.",)
