"""An agent that is surer of itself: its logits divided by a temperature below 1, in a zip of its own.

    python -m teachers.sharpen runs/teacher-breakout/best.zip breakout-sharp.zip --temperature 0.67

PPO's entropy bonus and imitation leave policies more random than good play wants, and a greedy policy of such an agent
gets stuck in loops. What is in between often scores best (docs/decisions.md).
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.system.files import at_home, in_memory, place_here, refuse_folder, replacing, sha256, write_bytes
from distill.system.ranges import POSITIVE
from distill.system.trouble import complain
from teachers.formats.archive import read_archive
from teachers.formats.torch_file import read_plain
from teachers.load import Source, find_teacher

HEAD = "action_net"
SCORES = ("scores", "model-index")
"""On a card."""


def sharpen(agent: str, out: Path, temperature: float, preset: str | None = None) -> Path:
    """Write a copy of an agent whose logits are divided by ``temperature``; everything else in it stays.

    Its card beside it says what that of the agent says, but for scores, which are the agent's own.

    Args:
        agent: zip of a stable-baselines3 PPO, A2C or TRPO agent with ``CnnPolicy``, or a bundled name.
        out: zip to write; an existing one is refused.
        temperature: below 1 makes the policy surer, above 1 more random.
        preset: what the copy sees, whatever the agent's papers say; by default what they say.

    Returns:
        ``out``.

    Raises:
        UserError: not such an agent, or one of another environment than the presets play; ``out``, or what would be
            its card, exists.
    """
    POSITIVE.check("--temperature", temperature)
    preset = preset and get_preset(preset).name
    source, path = _find(agent, preset)
    told, card = source.papers.game(agent), out.with_suffix(".md")
    for there in (out, card):
        if os.path.lexists(there):
            raise UserError(f"{there} exists; choose another name")
    with zipfile.ZipFile(path) as archive, replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as copy:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.rpartition("/")[2] == "policy.pth":
                state = read_plain(path, content, "policy.pth")
                for part in ("weight", "bias"):
                    state[next(name for name in state if name.endswith(f"{HEAD}.{part}"))] /= temperature
                content = in_memory(functools.partial(torch.save, state))
            copy.writestr(entry, content)
    fields = {name: value for name, value in source.card.items() if name not in SCORES}
    fields |= {"game": told[0]} if told else {}
    fields |= {} if preset is None else {"preset": preset}
    text = yaml.safe_dump(fields | {"sha256": sha256(out)}, sort_keys=False, allow_unicode=True)
    write_bytes(card, f"---\n{text}---\n\nThe logits of `{agent}`, divided by {temperature:g}.\n".encode())
    return out


def _find(agent: str, preset: str | None) -> tuple[Source, Path]:
    """An agent that can be sharpened, and its zip.

    Raises:
        UserError: it is none, or what refuses it on this preset would not go along with its copy.
    """
    source, given = find_teacher(agent), at_home(agent)
    path = given if source.path.is_dir() and given.is_file() else source.path  # a student's zip means its folder
    if not path.is_file():
        raise UserError(f"{path} is a folder; give the zip of a stable-baselines3 agent")
    archive = read_archive(path)
    if f"{HEAD}.weight" not in archive.weights:
        raise UserError(f"{path} has no policy head: it gives Q-values, and --tau is the temperature of those")
    if preset is None:
        source.papers.check_preset(agent)
    student = archive.fields.get("distilled")
    if preset and isinstance(student, dict) and student.get("role") != "teacher" and student.get("preset") != preset:
        raise UserError(f"student {path} plays on its own preset, {student.get('preset')}; leave --preset out")
    return source, path


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        Exit status: 0 done, 1 an error the user can fix.
    """
    about, _, _ = str(__doc__).partition("\n")
    parser = argparse.ArgumentParser(prog="python -m teachers.sharpen", description=about)
    parser.add_argument("agent", help="zip of a stable-baselines3 agent, or a bundled name")
    parser.add_argument("out", help="zip to write")
    parser.add_argument("--temperature", type=float, required=True, help="logits are divided by it")
    parser.add_argument("--preset", default=None, help="what the copy sees, whatever the agent's papers say")
    args = parser.parse_args(argv)
    try:
        refuse_folder(args.out, "agent.zip")
        print(f"written: {sharpen(args.agent, place_here(args.out), args.temperature, args.preset)}")
    except Exception as error:
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
