"""The style sheet of the HTML report: light and dark, screen and paper, no external resource."""

from __future__ import annotations

STYLE = """\
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6676; --page: #f6f7f9; --card: #fff;
  --rule: #dde2e9; --good: #1a7f4b; --bad: #b3261e; --wary: #8a5a00;
  --c0: #98a3b3; --c1: #2f6fde; --c2: #d9a441; --c3: #1b998b; --c4: #b45ec4; --c5: #d1495b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b6; --page: #14181f;
  --card: #1c222c; --rule: #323b49; --good: #53c98b; --bad: #ff8a80; --wary: #f0b94d;
  --c0: #788496; --c1: #6ea1ff; --c2: #c99a3f; --c3: #3cc4b4; --c4: #cf86dc; --c5: #ef7c8b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 880px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 1.5rem; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 12px; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 22px; margin: 0 0 18px; }
.verdict { border-left: 6px solid var(--wary); }
.verdict.hardened { border-left-color: var(--good); }
.verdict.worse { border-left-color: var(--bad); }
.verdict p { margin: 0; font-size: 1.1rem; overflow-wrap: anywhere; }
.gain { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-top: 12px; }
.gain strong { font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.gain span { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 18px 6px 0; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
tbody th { color: inherit; font-size: inherit; font-weight: 500; }
tbody tr.key td, tbody tr.key th { font-weight: 650; }
.notes, dl { color: var(--soft); font-size: .88rem; }
.notes { margin: 12px 0 0; padding: 0; list-style: none; }
.warnings { border-left: 6px solid var(--bad); }
.warnings ul { margin: 0; padding-left: 20px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--rule); }
.whisker { stroke: var(--ink); stroke-width: 1.5; }
polyline { fill: none; stroke-width: 2; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); }
.s3 { --c: var(--c3); } .s4 { --c: var(--c4); } .s5 { --c: var(--c5); }
rect, circle { fill: var(--c); }
polyline, g polyline ~ g .whisker { stroke: var(--c); }
@media (max-width: 560px) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""
