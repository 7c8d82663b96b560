"""From what a user calls an agent to where it lies: zips, unpacked zips, the folders that rl-zoo leaves, students."""

from __future__ import annotations

import re
from pathlib import Path

from distill.envs.games import known_games
from distill.errors import UserError, nearest
from distill.students.folder import is_student, no_student
from distill.system.files import at_home
from teachers.by_path import is_path, made_by
from teachers.envs import run_env_id
from teachers.formats.format import format_of, formats

PRETRAINED = Path(__file__).parent / "pretrained"
STUDENT_FILES = ("student.zip", "model.safetensors")


def bundled_teachers() -> dict[str, Path]:
    """Bundled agents by file stem, such as ``pong-ppo``."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.zip"))}


def locate(name: str) -> Path:
    """The zip, unpacked zip or student's folder that ``name`` means (not for ``hf://`` names).

    A folder of rl-zoo means the zip called like its environment, as in rl-zoo's own ``enjoy``; ``best_model`` and
    checkpoints are taken only by name. A file of weights among a student's papers means that student.

    Raises:
        UserError: nothing has that name, or a folder holds no agent.
    """
    if not name.strip():
        raise UserError(f"an agent needs a name: a path, hf://org/repo, or one of: {', '.join(bundled_teachers())}")
    short = short_names()
    path = short.get(name) or student_folder(name)
    if path.is_file() or is_student(path) or (path.is_dir() and format_of(path) is not None):
        return path
    zipped = path.with_name(f"{path.name}.zip") if path.name else path
    if zipped.is_file():
        return zipped
    if path.is_dir():
        return _in_folder(path)
    if path.suffix == ".zip":
        raise UserError(f"no teacher at {path}; give a path to a stable-baselines3 zip or a bundled name")
    if name in known_games():
        raise UserError(
            f"there is no bundled teacher of {name}; name one by --teacher (a path to a stable-baselines3 zip, or "
            f"hf://org/repo), or train one: make teacher GAME={name}"
        )
    raise UserError(
        f"unknown teacher {name!r}{nearest(name, short)}; give a path to a stable-baselines3 zip, "
        f"hf://org/repo, or one of: {', '.join(bundled_teachers())}"
    )


def student_folder(name: str) -> Path:
    """The student folder around weights that lie among its papers; any other path as it is."""
    path = at_home(name)
    return path.parent if path.name in STUDENT_FILES and path.is_file() and is_student(path.parent) else path


def is_agent(name: str) -> bool:
    """True where ``name`` means an agent that is here, on the hub, or made by a program."""
    try:
        return name.startswith("hf://") or (is_path(name) and bool(made_by(name))) or bool(locate(name))
    except UserError:
        return False


def short_names() -> dict[str, Path]:
    """Bundled agents by every name that means them."""
    names: dict[str, Path] = {}
    for stem, path in bundled_teachers().items():
        short = stem.rsplit("-", 1)[0]
        for known in (stem, short, short.replace("-", "_")):
            names.setdefault(known, path)
    return names


def _in_folder(folder: Path) -> Path:
    """The zip called like the environment that the folder is named after."""
    if (folder / "dataset.json").is_file():
        raise UserError(f"{folder} is a dataset, not an agent; give a zip, a student's run folder or a bundled name")
    env = run_env_id(folder.resolve().name)
    if env is not None and (folder / f"{env}.zip").is_file():
        return folder / f"{env}.zip"
    alone = _only_file(folder)
    if alone is not None:
        return alone
    zips = sorted(path.name for path in folder.glob("*.zip"))
    named = [name for name in zips if re.fullmatch(r".*-v\d+\.zip", name) and run_env_id(name.removesuffix(".zip"))]
    if len(named) == 1:
        return folder / named[0]
    if zips:
        shown = f"{', '.join(zips[:5])}{' and more' if len(zips) > 5 else ''}"
        raise UserError(f"{folder} has no zip called like its environment; give one of its zips by name: {shown}")
    if (folder / "config.yaml").is_file():
        raise no_student(folder, str(folder))
    raise UserError(
        f"{folder} is a folder but neither a dataset nor a finished student's run, and no agent's zip is in it; "
        "give another path"
    )


def _only_file(folder: Path) -> Path | None:
    """The only agent in a folder, where its format says that such a folder means it; zips have rules of their own."""
    found = [path for form in formats() if form.is_what_a_folder_means for path in folder.glob(f"*{form.suffix}")]
    return found[0] if len(found) == 1 and not any(folder.glob("*.zip")) else None
