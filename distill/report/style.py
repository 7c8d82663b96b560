"""What the report's page looks like: its frame and its style sheet, light and dark."""

from __future__ import annotations

from string import Template

from distill.report.plots import DARK, LIGHT

GENERATOR = '<meta name="generator" content="distill report">'

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
$generator
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="facts">$facts</p>
<p class="lead">$lead</p>
$more
</header>
$sections
</main>
</body>
</html>
""")

STYLE = f"""
:root {{ color-scheme: light dark; --paper: {LIGHT.background}; --ink: {LIGHT.ink}; --soft: #57606a; --line: #d8dde3;
  --well: #f5f7f9; }}
@media (prefers-color-scheme: dark) {{ :root {{ --paper: {DARK.background}; --ink: {DARK.ink}; --soft: #a3acb6;
  --line: #323942; --well: #1f252c; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }}
h2 {{ font-size: 1.25rem; margin: 2.75rem 0 .6rem; letter-spacing: -.01em; }}
h3 {{ font-size: 1rem; margin: 1.25rem 0 .3rem; }}
p {{ margin: .5rem 0; max-width: 44rem; overflow-wrap: anywhere; }}
.facts, .note, figcaption {{ color: var(--soft); font-size: .9rem; }}
.lead {{ font-size: 1.2rem; line-height: 1.45; margin: 1.25rem 0 .75rem; }}
.missing {{ border-left: 3px solid #E69F00; padding-left: .75rem; font-size: .9rem; }}
.scroll {{ overflow-x: auto; margin: .75rem 0; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th {{ font-weight: 600; color: var(--soft); vertical-align: bottom; }}
thead th {{ white-space: normal; }}
th:first-child, td:first-child {{ text-align: left; position: sticky; left: 0; background: var(--paper);
  padding-left: 0; white-space: normal; min-width: 6.5rem; max-width: 14rem; }}
tbody th {{ color: var(--ink); }}
.words th, .words td {{ text-align: left; white-space: normal; vertical-align: top; }}
.words td {{ min-width: 9rem; overflow-wrap: anywhere; }}
tr.same td {{ color: var(--soft); }}
.dot {{ display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .45em; }}
figure {{ margin: 1rem 0; }}
figure img {{ display: block; max-width: 100%; height: auto; }}
figcaption {{ max-width: 44rem; margin-top: .4rem; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 0 1.25rem; }}
.grid figure {{ margin: .5rem 0; }}
@page {{ margin: 14mm; }}
@media print {{
  :root {{ color-scheme: light; --paper: {LIGHT.background}; --ink: {LIGHT.ink}; --soft: #57606a; --line: #d8dde3;
    --well: #f5f7f9; }}
  body {{ font-size: 10pt; }}
  h1 {{ font-size: 18pt; }} h2 {{ font-size: 13pt; margin: 1.5rem 0 .4rem; }} .lead {{ font-size: 12pt; }}
  main {{ max-width: none; padding: 0; }}
  h2, h3 {{ break-after: avoid; }}
  figure, tr, pre {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  figure img {{ width: auto; height: auto; max-width: 125mm; max-height: 190mm; }}
  .grid {{ display: flex; gap: 4mm; }} .grid figure {{ flex: 1; }} .grid img {{ max-width: 100%; }}
  .scroll img {{ min-width: 0 !important; max-width: 100%; }}
  table {{ font-size: 8pt; }}
  th, td {{ padding: .25rem .35rem; }}
  th:first-child, td:first-child {{ position: static; min-width: 0; overflow-wrap: anywhere; }}
  .words td {{ min-width: 0; }}
}}
pre {{ background: var(--well); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  margin: .3rem 0;  font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
"""
