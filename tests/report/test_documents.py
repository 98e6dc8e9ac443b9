"""HTML and Markdown: well-formed, self-contained, deaf to hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from cloakify.errors import CloakifyError, UsageError
from cloakify.printable import printable
from cloakify.report import EvaluateReport, HardenReport, write_report
from cloakify.report.facts import circumstances, verdicts, warnings
from cloakify.report.html import render_html
from cloakify.report.markdown import escape, render_markdown
from cloakify.report.records import AttackInfo, TuningInfo
from cloakify.report.tables import tables

HOSTILE = "</style><script>alert('1')</script><img src=x onerror=\"y\">&lt;|`*_\n# ]("
VOID = {"meta", "br", "link", "img"}
MakeHarden = Callable[..., HardenReport]
MakeEvaluate = Callable[..., EvaluateReport]


class Outline(HTMLParser):
    """Collects tags, attributes and text, and holds every end tag to its start tag."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    parsed = Outline()
    parsed.feed(text)
    parsed.close()
    assert not parsed.stack
    return parsed


def test_html_leads_with_the_verdict_and_the_adaptive_gain(make_harden: MakeHarden) -> None:
    report = make_harden()
    page = outline(render_html(report))
    places = [
        page.text.index(part)
        for part in (report.verdict.sentence, "+0.2 points", "near-copies", "CPUExecutionProvider")
    ]
    assert places == sorted(places)
    assert "calibrate 3.2 s" in page.text or "calibrate 3.3 s" in page.text


def test_markdown_leaves_out_nothing_that_html_says(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate
) -> None:
    tuned = TuningInfo(
        AttackInfo(name="pgd", norm="linf", eps=4 / 255, steps=2, gradient="white-box"), 1300
    )
    harden = make_harden()
    of_gates = msgspec.structs.replace(
        harden,
        mask=replace(harden.mask, method="tuned", score=None, tuning=tuned),
        notes=("mnist.npz: bytes are taken for pixels", "tuned on 2"),
    )
    for report in (harden, of_gates, make_evaluate()):
        page, text = outline(render_html(report)).text, render_markdown(report)
        assert all(tables(report)) and any(table.notes for table in tables(report))
        told = [sentence for _, sentence in verdicts(report)]
        told += [*warnings(report), *(part for fact in circumstances(report) for part in fact)]
        for table in tables(report):
            told += [table.title, *table.header, *table.notes]
            told += [cell for row in table.rows for cell in row]
        for each in told:
            assert each in page and escape(each) in text
    assert "- Note: tuned on 2" in render_markdown(of_gates)
    assert "1,300 steps of tuning, each under pgd linf 4/255, 2 steps" in render_markdown(of_gates)


def test_html_is_self_contained(make_harden: MakeHarden, make_evaluate: MakeEvaluate) -> None:
    for text in (render_html(make_harden()), render_html(make_evaluate())):
        page = outline(text)
        assert not page.tags & {"script", "link", "img", "iframe", "object", "base"}
        assert not page.attributes & {"src", "href", "style"}
        assert "url(" not in text and "://" not in text and "@import" not in text


def test_charts_are_well_formed_and_inside_their_box(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate
) -> None:
    # Bars and legend of three models (no static figure for the random mask), or curves of two.
    # Long names need a legend of two rows.
    for report, shapes in (
        (make_harden(HOSTILE), 11 + 3),
        (make_evaluate(), 2 + 2 * 5),
        (make_evaluate("a" * 90, "b" * 90), 2 + 2 * 5),
    ):
        text = render_html(report)
        svg = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        assert len([*svg.iter("rect"), *svg.iter("circle")]) == shapes
        for text_element in svg.iter("text"):
            assert 0 <= float(text_element.attrib["x"]) <= width
            assert 0 <= float(text_element.attrib["y"]) <= height
        for line in svg.iter("line"):
            assert all(0 <= float(line.attrib[x]) <= width for x in ("x1", "x2"))
            assert all(0 <= float(line.attrib[y]) <= height for y in ("y1", "y2"))


def test_html_escapes_hostile_names(make_harden: MakeHarden, make_evaluate: MakeEvaluate) -> None:
    tame = outline(render_html(make_harden()))
    page = outline(render_html(make_harden(HOSTILE)))
    assert page.tags == tame.tags and page.attributes == tame.attributes
    assert printable(f"models/{HOSTILE}.onnx") in page.text
    two = outline(render_html(make_evaluate(HOSTILE + "1", HOSTILE + "2")))
    assert two.tags == outline(render_html(make_evaluate())).tags


def test_markdown_escapes_hostile_names(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate
) -> None:
    for text in (
        render_markdown(make_harden(HOSTILE)),
        render_markdown(make_evaluate(HOSTILE + "1", HOSTILE + "2")),
    ):
        text = re.sub(r"^    cloakify .*\n", "", text, flags=re.MULTILINE)
        assert not re.search(r"(?<!\\)[<`]", text)
        assert sum(line.startswith("# ") for line in text.splitlines()) == 1
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(widths) == 1
    assert escape("a|b\n<c>") == r"a\|b\\n\<c\>"


def test_markdown_holds_verdict_table_and_warnings(make_harden: MakeHarden) -> None:
    text = render_markdown(make_harden())
    assert text.index("**Not hardened") < text.index("| adaptive |") < text.index("## Warnings")
    assert "none was written" in render_markdown(make_harden(written=False))


@pytest.mark.parametrize("name", ["model", HOSTILE])
def test_the_command_can_be_copied(make_harden: MakeHarden, name: str) -> None:
    report = make_harden(name)
    assert report.command
    lines = render_markdown(report).splitlines()
    # Code: after a paragraph and an empty line, so that it belongs to no list.
    assert lines[-3:] == [
        "The command that repeats the run:",
        "",
        f"    {printable(report.command)}",
    ]
    assert printable(report.command) in outline(render_html(report)).text
    unknown = msgspec.structs.replace(report, command=msgspec.UNSET)
    assert "repeats" not in render_markdown(unknown) and "Command" not in render_html(unknown)


@pytest.mark.parametrize("name", ["r.json", "r.html", "r.md", "r.HTML"])
def test_suffix_chooses_the_form(make_harden: MakeHarden, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_report(make_harden("n\udcff"), path)
    text = path.read_text(encoding="utf-8")
    starts = {".json": "{", ".html": "<!DOCTYPE html>", ".md": "# Hardening"}
    assert text.startswith(starts[path.suffix.lower()])
    if path.suffix == ".json":
        assert json.loads(text)["kind"] == "harden"


@pytest.mark.parametrize("name", ["report", "report.txt", "report.json.gz"])
def test_other_suffixes_are_wrong_usage(make_harden: MakeHarden, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.cdx\.json, \.json, \.html or \.md"):
        write_report(make_harden(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_one_line(make_harden: MakeHarden, tmp_path: Path) -> None:
    with pytest.raises(CloakifyError):
        write_report(make_harden(), tmp_path / "none" / "r.json")


def test_every_form_says_which_version_made_it(make_harden: MakeHarden) -> None:
    assert "<dt>Made by</dt><dd>cloakify 0.1.0</dd>" in render_html(make_harden())
    assert "- Made by: cloakify 0.1.0\n" in render_markdown(make_harden())


def test_answers_and_names_of_classes_are_told(make_harden: MakeHarden) -> None:
    harden_report = make_harden()
    head = replace(harden_report.head, task="binary", num_classes=2)
    data = replace(harden_report.data, classes=("no", "yes"))
    told = dict(circumstances(msgspec.structs.replace(harden_report, head=head, data=data)))
    assert told["Head"].endswith("2 classes by one logit")
    assert told["Classes"] == "0 no, 1 yes"
    many = replace(data, classes=tuple(f"c{place}" for place in range(25)))
    labelled = replace(head, task="multilabel", num_classes=25)
    told = dict(circumstances(msgspec.structs.replace(harden_report, head=labelled, data=many)))
    assert told["Head"].endswith("25 independent labels")
    assert told["Classes"].endswith("19 c19 and 5 more")


@pytest.mark.parametrize("source", [None, "preprocessor_config.json"])
@pytest.mark.parametrize("kind", ["harden", "evaluate"])
def test_how_inputs_are_made_is_told(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate, kind: str, source: str | None
) -> None:
    report = make_harden() if kind == "harden" else make_evaluate()
    done = "scale 255, mean 0, std 1; bgr; pad, bicubic"
    data = replace(report.data, preprocessing=done, preprocessing_source=source)
    told = dict(circumstances(msgspec.structs.replace(report, data=data)))
    assert told["Inputs"] == (done if source is None else f"{done} (as {source} says)")
    old = msgspec.structs.replace(report, data=replace(report.data, preprocessing=None))
    assert "Inputs" not in dict(circumstances(old))
