from __future__ import annotations

from pathlib import Path

from distill import __version__
from distill.system.yaml_text import load_yaml

ROOT = Path(__file__).parents[2]


def test_the_citation_is_of_this_version() -> None:
    cited = load_yaml((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"## {__version__} - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


def test_templates_begin_as_github_reads_them() -> None:
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert len(templates) == 2
    for path in templates:
        _, head, body = path.read_text().split("---\n", 2)
        assert {"name", "about"} <= load_yaml(head).keys()
        assert body.strip()
