"""``distill collect``: play, label, commit; killed at any moment, the same command goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distill.agents.actor import Actor, Policy
from distill.collect.label import Labeller
from distill.collect.play import Play
from distill.collect.scribe import Scribe
from distill.collect.settings import CollectRun
from distill.dataset.writer import DatasetWriter
from distill.envs.games import game_info
from distill.envs.presets import Preset, get_preset
from distill.envs.second_sight import refuse_other_screens
from distill.envs.step import Game
from distill.errors import UserError
from distill.records.dataset import Identity
from distill.system.crew import Crew
from distill.system.device import pick_device
from distill.system.progress import Bar, console, print_table
from distill.system.runtime import torch_threads
from distill.system.settings import fill
from teachers.layouts import is_agent, student_folder
from teachers.load import load_teacher
from teachers.protocol import Teacher


@dataclass
class Summary:
    """What a collection did."""

    folder: Path
    """The dataset."""
    writer: str
    """This stream's name."""
    states: int
    """States this writer has committed, earlier runs included."""
    added: int
    """States added by this run."""
    games: list[Game] = field(default_factory=list)
    """Games that ended in this run."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part ran: env and actor (one after the other) beside label and write."""
    wall: float = 0.0
    """Wall-clock from the first step to the last commit."""
    bytes_per_state: float = 0.0
    """Bytes on disk per state, over all committed shards of this writer."""


def collect(config: CollectRun) -> Summary:
    """See ``distill.config.stages.collect``, which checks ``config`` first."""
    device = pick_device(config.device)
    eyes = {"preset": config.teacher_preset, "recorded": config.preset}
    teacher = load_teacher(config.teacher, game=config.env, tau=config.tau, **eyes)
    identity = identify(config, teacher)
    make_actor, writer_name = _actors(config, teacher, identity, device)
    folder = fill(config.collect.out, env=config.env)
    if not (folder / "dataset.json").is_file():  # else the first to tell is what differs from that
        _check_eyes(config, identity)
    behaviour = {
        "actor": writer_name,
        "behaviour": config.collect.behaviour,
        "epsilon": config.collect.epsilon if config.collect.behaviour == "epsilon" else None,
        "beta": config.collect.beta,
        "sticky": config.collect.sticky,
        "seed": config.seed,
    }
    described = vars(teacher.info)
    writer = DatasetWriter(folder, identity, config.collect.writer or writer_name, behaviour, dict(described))
    try:
        return _fill(config, writer, Labeller.of(teacher, identity, device), make_actor)
    finally:
        writer.close()


def identify(config: CollectRun, teacher: Teacher) -> Identity:
    """What every state of this collection has in common."""
    c, info = config.collect, game_info(config.env)
    sees = get_preset(teacher.info.preset)
    preset = get_preset(config.preset or sees.name)
    rows = {"projected": c.k, "full": teacher.info.num_actions, "none": 0}[c.jacobian]
    return Identity(
        game=config.env,
        rom_md5=info.rom_md5,
        preset=preset.name,
        preset_hash=preset.hash,
        teacher=teacher.info.fingerprint,
        jacobian=c.jacobian,
        k=rows,
        law=c.law,
        space=c.space,
        codec=c.codec,
        teacher_preset=sees.name,
        teacher_preset_hash=sees.hash,
        jacobian_share=1.0 if c.jacobian == "none" else c.jacobian_share,
    )


def _check_eyes(config: CollectRun, identity: Identity) -> None:
    """Refuse to record what the teacher's eyes, where they are other ones, cannot be told from."""
    if identity.same_eyes:
        return
    refuse_other_screens(get_preset(identity.teacher_preset), get_preset(identity.preset))
    if identity.jacobian != "none":
        raise UserError(
            f"teacher {config.teacher} sees preset {identity.teacher_preset} and {identity.preset} is recorded, so its "
            "derivatives are by pixels that no student sees; use --collect.jacobian=none, or one preset for both"
        )
    console.print(f"teacher: it sees preset {identity.teacher_preset}; recorded is {identity.preset}")


def _actors(
    config: CollectRun, teacher: Teacher, identity: Identity, device: torch.device
) -> tuple[Callable[[], Actor], str]:
    """Who acts, made anew for every thread, and the name that its stream of shards gets."""
    c = config.collect

    def labels() -> Policy:
        return Policy(teacher.net, device, second_sight=not identity.same_eyes)

    if c.actor == "teacher":
        return lambda: Actor(labels(), c.behaviour, c.epsilon), "teacher"
    net, mark = _student(config, teacher, get_preset(identity.preset))

    def make() -> Actor:
        expert = labels() if c.beta else None
        return Actor(Policy(net, device), c.behaviour, c.epsilon, expert, c.beta)

    share = f"mix{round(100 * c.beta):02d}" if c.beta else "student"
    return make, f"{share}-{mark[:8]}"


def _student(config: CollectRun, teacher: Teacher, recorded: Preset) -> tuple[nn.Module, str]:
    """Network and fingerprint of a student with its papers, or of any other agent that a teacher's name can mean."""
    from distill.students.folder import is_student, load_student

    actor, wanted = config.collect.actor, teacher.info.task.but(config.env, recorded.name)
    change = "choose another actor, or set --env or --preset"
    folder = student_folder(actor)
    if is_student(folder) or not is_agent(actor):
        student = load_student(folder)
        student.task.refuse_other(wanted, f"--collect.actor: student {student.folder}", change)
        return student.net, student.fingerprint
    agent = load_teacher(actor, game=config.env, preset=config.preset, tau=config.tau)
    agent.info.task.refuse_other(wanted, f"--collect.actor={actor}", change)
    return agent.net, agent.info.fingerprint


def _fill(config: CollectRun, writer: DatasetWriter, labeller: Labeller, make_actor: Callable[[], Actor]) -> Summary:
    c = config.collect
    summary = Summary(writer.folder, writer.writer, writer.states, 0)
    if writer.states >= c.states:
        console.print(f"{writer.folder}: writer {writer.writer!r} already has {writer.states:,} states; nothing to do")
        return summary
    bar = Bar(f"collect {writer.writer}", "states", c.states, writer.states)
    with contextlib.ExitStack() as stack:
        # The emulators, two halves of the play and the scribe share the cores: half of them for each network.
        stack.enter_context(torch_threads(0.5))
        play = stack.enter_context(Play(config, writer, make_actor, stack.enter_context(Crew(2))))
        scribe = stack.enter_context(Scribe(labeller, writer, play.players))
        stack.enter_context(bar)
        started, left = time.perf_counter(), c.states - writer.states
        while left > 0:
            recording = play.record(min(c.shard_states, left), scribe.begin())
            left -= len(recording.arrays)
            scribe.settle()  # the shard before this one: play is one shard ahead at most
            scribe.commit(recording, config.seed, play.next_episode)
            summary.games += recording.games
            rate = (c.states - left - summary.states) / (time.perf_counter() - started)
            bar.update(c.states - left, f"{rate:,.0f}/s, {_scores(summary.games)}")
        scribe.settle()
        summary.wall = time.perf_counter() - started
        summary.seconds = play.seconds | scribe.seconds
    summary.added = writer.states - summary.states
    summary.states = writer.states
    size = sum(path.stat().st_size for shard in writer.shards for path in shard.iterdir())
    summary.bytes_per_state = size / writer.states
    _print(summary)
    return summary


def _scores(games: list[Game]) -> str:
    if not games:
        return "no game finished yet"
    return f"{len(games)} games, mean score {np.mean([game.score for game in games]):.1f}"


def _print(summary: Summary) -> None:
    parts = {"env": "env", "actor": "actor", "label": "logits and Jacobians", "write": "write"}
    shares = ", ".join(f"{text} {summary.seconds[part]:.0f} s" for part, text in parts.items())
    rows = [
        ("dataset", str(summary.folder)),
        ("writer", summary.writer),
        ("states", f"{summary.states:,} ({summary.added:,} new)"),
        ("finished games", _scores(summary.games)),
        ("speed", f"{summary.added / summary.wall:,.0f} states/s"),
        ("time", f"{summary.wall:.0f} s; side by side: {shares}"),
        ("size", f"{summary.bytes_per_state / 1024:.1f} KiB per state"),
    ]
    print_table("collected", ("", ""), rows)
