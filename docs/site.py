"""What the site needs beyond the pages in docs/: the README as its first page, and what pages link to outside of docs/.

In the repository a page links to ``../studies/...`` or ``../README.md``, so that it can be read there. On the site
those files lie beside the pages: they are added to it, and the links are written anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff")
RESULTS = ("*.md", "*.png", "*.csv")
FOLDER = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<path>[^)\"\s#:]+)\)")
LINK = re.compile(r"(?P<open>\]\(|src=\"|href=\")(?P<path>[^)\"\s#:]+)(?P<rest>#[^)\"\s]*)?(?P<close>[)\"])")


def on_files(files: Files, config: Any) -> Files:
    """Add the README as ``index.md``, the other papers of the top folder, and the studies' results."""
    found = {"index.md": ROOT / "README.md", **{name: ROOT / name for name in TOP}}
    for pattern in RESULTS:
        found |= {str(path.relative_to(ROOT)): path for path in ROOT.glob(f"studies/*/results/**/{pattern}")}
    for name, path in found.items():
        if path.exists():
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def site_path(target: str) -> str:
    """Where a file of the repository is on the site, if it is there; a folder is its tables."""
    if (ROOT / target).is_dir():
        target += "/tables.md"
    return "index.md" if target == "README.md" else target.removeprefix("docs/")


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Write the links of a page anew, from its place in the repository to its place on the site."""
    source = page.file.src_uri
    outside = source == "index.md" or source in TOP or source.startswith("studies/")
    here = ("README.md" if source == "index.md" else source) if outside else f"docs/{source}"

    def place(path: str) -> str:
        return os.path.normpath(os.path.join(os.path.dirname(here), path))

    def unlinked(link: re.Match[str]) -> str:
        """What is in the repository and not on the site is named only."""
        target = place(link["path"])
        elsewhere = (ROOT / target).exists() and files.get_file_from_path(site_path(target)) is None
        return link["text"] if elsewhere else link[0]

    def moved(link: re.Match[str]) -> str:
        on_site = site_path(place(link["path"]))
        if files.get_file_from_path(on_site) is None:
            return link[0]
        path = os.path.relpath(on_site, os.path.dirname(source) or ".")
        if link["open"] != "](":  # MkDocs looks only at Markdown's own links
            path = re.sub(r"\.md$", ".html", path)
        return f"{link['open']}{path}{link['rest'] or ''}{link['close']}"

    return LINK.sub(moved, FOLDER.sub(unlinked, markdown))
