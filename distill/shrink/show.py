"""The ladder as people read it: terminal, Markdown, TensorBoard."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from distill.envs.protocols import get_protocol
from distill.records.tensorboard import add_figures
from distill.shrink.ladder import Rung
from distill.shrink.settings import INT8, ShrinkRun
from distill.system.progress import console, print_table

HEADER = ("network", "weights", "KiB", "µs torch", "µs ort", "score", "95 % interval", "of teacher")


def table(rungs: Sequence[Rung]) -> list[tuple[str, ...]]:
    """Rows of text, in the order of ``HEADER``."""
    return [
        (
            one.name,
            f"{one.weights:,}",
            f"{one.bytes / 1024:,.0f}",
            _number(one.pytorch_us, ".0f"),
            _number(one.onnxruntime_us, ".0f"),
            _number(one.score, ".1f"),
            f"{one.score_low:.1f} .. {one.score_high:.1f}",
            _number(one.share, ".0%"),
        )
        for one in rungs
    ]


def show(config: ShrinkRun, rungs: Sequence[Rung], random: float) -> None:
    """Print the table, and what int8 costs."""
    print_table(title(config), ["\n".join(name.rsplit(" ", 1)) for name in HEADER], table(rungs))
    for line in notes(config, rungs, random):
        console.print(line)


def title(config: ShrinkRun) -> str:
    """What the table is of."""
    return f"{config.env}: how small? {config.shrink.games} whole games each, protocol {config.evaluate.protocol}"


def notes(config: ShrinkRun, rungs: Sequence[Rung], random: float) -> list[str]:
    """What one must know to read the table."""
    trained = sorted({one.seeds for one in rungs[1:]})
    seeds = " or ".join(map(str, trained))
    over = "over seeds, Student's t" if trained != [1] else "over games, bootstrap"
    over += " (of a single seed over games)" if 1 in trained and len(trained) > 1 else ""
    lines = [
        f"{get_protocol(config.evaluate.protocol).meaning}; {seeds} {'seed' if trained == [1] else 'seeds'} a network; "
        f"intervals {over} (the teacher's over games).",
        f"of teacher: (score − random) / (teacher − random); random play scored {random:.1f} in the same games.",
    ]
    for one in rungs:
        if one.precision == INT8:
            lines.append(f"{one.network} int8: {_cost(one)}.")
    return lines


def markdown(config: ShrinkRun, rungs: Sequence[Rung], random: float) -> str:
    """The whole table as a page."""
    lines = [f"# {title(config)}", "", *(f"* {line}" for line in notes(config, rungs, random)), ""]
    rows = [HEADER, ("---", *["--:"] * (len(HEADER) - 1)), *table(rungs)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def log_rungs(folder: Path, rungs: Sequence[Rung], picture: bytes) -> None:
    """TensorBoard: a run for each precision, whose steps are numbers of weights; written anew every time."""
    board = folder / "board"
    shutil.rmtree(board, ignore_errors=True)
    for kind in dict.fromkeys(_kind(one) for one in rungs):
        with SummaryWriter(str(board / kind)) as writer:
            for one in sorted(rungs, key=lambda one: one.weights):
                if _kind(one) == kind:
                    names = ("score", "share", "bytes", "pytorch_us", "onnxruntime_us", "int8_cost", "int8_kl")
                    add_figures(writer, one.weights, {f"shrink/{name}": getattr(one, name) for name in names})
    with SummaryWriter(str(board)) as writer:
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        writer.add_image("shrink/picture", pixels, 0, dataformats="HWC")


def _kind(one: Rung) -> str:
    return one.network if one.network == "teacher" else one.precision


def _cost(one: Rung) -> str:
    interval = "" if one.int8_cost_low is None else f" ({one.int8_cost_low:.2f} .. {one.int8_cost_high:.2f})"
    cost = "" if one.int8_cost is None else f"costs {one.int8_cost:.2f} points{interval}; "
    if one.int8_kl is None or one.int8_action_error is None:
        return f"{cost}how far it is from float32 is not told"
    return f"{cost}KL(float32 ‖ int8) {one.int8_kl:.5f} nats, {one.int8_action_error:.1%} of the best actions differ"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
