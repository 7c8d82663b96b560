"""``distill configs``: the settings files that come with the toolkit, wherever it is installed."""

from __future__ import annotations

import argparse
import os
from importlib import resources
from pathlib import Path

from distill.errors import UserError, nearest
from distill.system.files import place_here, refuse_folder, write_bytes


def arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("name", nargs="?", help="settings file to copy; without it, all are listed")
    parser.add_argument("target", nargs="?", help="file or folder to copy it to; default: NAME.yaml here")


def bundled() -> dict[str, str]:
    """Text of every settings file, by name without ``.yaml``."""
    folder = resources.files("distill") / "configs"
    files = {file.name.removesuffix(".yaml"): file for file in folder.iterdir() if file.name.endswith(".yaml")}
    return {name: files[name].read_text("utf-8") for name in sorted(files)}


def about(text: str) -> str:
    """What a settings file says of itself: its first sentence; the first line is the command that uses it."""
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    words = " ".join(lines[1:]).split()
    end = next((place for place, word in enumerate(words, 1) if word.endswith((".", ":", ";"))), len(words))
    return " ".join(words[:end]).rstrip(".:;")


def copy(name: str, target: str | None) -> Path:
    """Write a settings file where it can be changed.

    Args:
        name: one of ``bundled``.
        target: file or existing folder; the default is the file's own name in the current folder.

    Raises:
        UserError: no file of that name, or something is there already.
    """
    files = bundled()
    name = name.removesuffix(".yaml")
    if name not in files:
        raise UserError(f"there is no settings file {name!r}{nearest(name, files)}; known: {', '.join(files)}")
    path = place_here(target or f"{name}.yaml")
    if path.is_dir():
        path = path / f"{name}.yaml"
    else:
        refuse_folder(target or "", f"{name}.yaml")
    if os.path.lexists(path):
        raise UserError(f"{path} exists; name another file, as in `distill configs {name} my-{name}.yaml`")
    write_bytes(path, files[name].encode())
    return path


def run(args: argparse.Namespace) -> None:
    """List all settings files, or copy one."""
    if args.name is None:
        for known, text in bundled().items():
            print(f"{known:16}{about(text)}")
        print("\n`distill configs NAME` copies one here; use it with --config NAME.yaml.")
    else:
        path = copy(args.name, args.target)
        print(f"{path}: change what you like, and use it with --config {path}")
