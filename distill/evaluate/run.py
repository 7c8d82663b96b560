"""``distill evaluate``: any mix of teachers and students, the same games, one scores.json."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.config import Config, fill
from distill.dataset.reader import Dataset
from distill.dataset.split import split_by_episode
from distill.device import pick_device
from distill.envs.ale_vec import Game
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.evaluate.episodes import play
from distill.evaluate.fidelity import Fidelity, measure
from distill.evaluate.protocol import Protocol, get_protocol
from distill.evaluate.statistics import summarise
from distill.files import read_json, write_json
from distill.games import REFERENCE_SCORES, human_normalized
from distill.progress import Bar, console, print_table
from distill.provenance import command_line, versions
from distill.students.folder import Student, is_student, load_student
from distill.students.nets import AtariCNN, count_parameters
from distill.validate import validated
from teachers.layouts import student_folder
from teachers.load import load_teacher


@dataclass
class Agent:
    """One player in an evaluation."""

    name: str
    """Its name in tables and scores.json."""
    what: str
    """Where it came from, as given on the command line."""
    net: AtariCNN
    """Its network."""
    fingerprint: str
    """SHA-256 of its weights."""
    preset: str
    """What it sees."""
    student: Student | None = None
    """Its papers, for students."""
    distilled: bool = False
    """A student without its papers: an exported zip."""

    @property
    def kind(self) -> str:
        """``teacher`` or ``student``."""
        return "teacher" if self.student is None and not self.distilled else "student"


def evaluate(config: Config) -> dict[str, Any]:
    """Play ``evaluate.games`` whole games with every agent and write scores.json.

    Returns:
        The content of scores.json (docs/metrics.md).

    Raises:
        UserError: an agent is unknown or of another game, or scores.json exists.
    """
    config = validated(config, "evaluate")
    e = config.evaluate
    device = pick_device(config.device)
    protocol = get_protocol(e.protocol)
    agents = find_agents(config)
    folder = fill(e.out, env=config.env)
    path = folder / "scores.json"
    if path.exists():
        return _existing(path, config, agents)
    # What can be refused is refused before hours of play.
    if e.capture_video:
        from distill.evaluate.video import require_video

        require_video()
    faithful = {agent.name: _fidelity(config, agent, device) for agent in agents}
    scores = {a.name: _score(config, a, faithful[a.name], protocol, device, folder) for a in agents}
    relate(config.env, scores)
    record: dict[str, Any] = {
        "game": config.env,
        "preset": agents[0].preset,
        "protocol": protocol.name,
        "games": e.games,
        "seed": config.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "versions": versions(),
        "agents": scores,
    }
    write_json(path, record)
    _tensorboard(folder, record)
    show(record, protocol)
    console.print(f"written: {path}")
    return record


def find_agents(config: Config) -> list[Agent]:
    """Load every agent of ``evaluate.agents`` and check that they can be compared."""
    agents: list[Agent] = []
    for item in config.evaluate.agents:
        name, _, what = item.rpartition("=")
        if "/" in name:
            raise UserError(f"--evaluate.agents: {item!r} gives an agent a name with a slash; write NAME=WHAT")
        agents.append(_load(config, name, what))
    names = [agent.name for agent in agents]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UserError(f"two agents are called {sorted(repeated)[0]!r}; rename one with --evaluate.agents NAME=WHAT")
    presets = {agent.preset for agent in agents}
    if len(presets) > 1:
        raise UserError(f"these agents see different presets ({', '.join(sorted(presets))}); evaluate them apart")
    return agents


def _load(config: Config, name: str, what: str) -> Agent:
    folder = student_folder(what)
    if is_student(folder) or (folder.is_dir() and (folder / "config.yaml").exists()):
        student = load_student(folder)
        preset = get_preset(student.facts["preset"])
        if student.facts["game"] != config.env:
            raise UserError(f"student {what} plays {student.facts['game']}, not {config.env}; set --env")
        if student.facts["preset_hash"] != preset.hash or config.preset not in (None, preset.name):
            raise UserError(
                f"student {what} was trained on preset {preset.name} ({student.facts['preset_hash']}), "
                f"not on {config.preset or preset.name} ({get_preset(config.preset or preset.name).hash})"
            )
        return Agent(name or folder.resolve().name, what, student.net, student.fingerprint, preset.name, student)
    wanted = config.teacher if what == "teacher" else what
    teacher = load_teacher(wanted, game=config.env, preset=config.preset, tau=config.tau)
    # Names become files and TensorBoard runs, so a path or a hub id gives only its last part.
    short = name or Path(what).name.removesuffix(".zip")
    distilled = teacher.info.algorithm == "student" and what != "teacher"
    return Agent(short, what, teacher.net, teacher.info.fingerprint, teacher.info.preset, distilled=distilled)


def _existing(path: Path, config: Config, agents: list[Agent]) -> dict[str, Any]:
    """Accept a complete scores.json of the same evaluation when resuming; refuse any other."""
    if not config.evaluate.resume:
        raise UserError(f"{path} exists; add --evaluate.resume=true to keep it, or choose another --evaluate.out")
    record: dict[str, Any] = read_json(path, "scores file")
    then = {name: facts.get("fingerprint") for name, facts in record.get("agents", {}).items()}
    now = {agent.name: agent.fingerprint for agent in agents}
    e = config.evaluate
    asked = (config.env, agents[0].preset, e.games, e.protocol, config.seed, now)
    if (*(record.get(key) for key in ("game", "preset", "games", "protocol", "seed")), then) != asked:
        raise UserError(
            f"{path} is of another game, preset, agents, number of games, protocol or seed; "
            "choose another --evaluate.out"
        )
    show(record, get_protocol(record["protocol"]))
    console.print(f"{path}: already complete; nothing to do")
    return record


def _score(
    config: Config, agent: Agent, faithful: Fidelity | None, protocol: Protocol, device: torch.device, folder: Path
) -> dict[str, Any]:
    e = config.evaluate
    preset = get_preset(agent.preset)
    with Bar(f"play {agent.name}", "games", e.games) as bar:
        ended: list[float] = []

        def on_game(game: Game) -> None:
            ended.append(game.score)
            bar.update(len(ended), f"mean score {np.mean(ended):.1f}")

        games = play(
            agent.net, config.env, preset, protocol,
            games=e.games, num_envs=e.num_envs, seed=config.seed, device=device, on_game=on_game,
        )  # fmt: skip
    if e.capture_video:
        from distill.evaluate.video import record_game

        record_game(agent.net, config.env, preset, protocol, config.seed, device, folder / f"{agent.name}.mp4")
    summary = summarise([game.score for game in games])
    return {
        "kind": agent.kind,
        "what": agent.what,
        "fingerprint": agent.fingerprint,
        "parameters": count_parameters(agent.net.path()),
        "returns": [game.score for game in games],
        "lengths": [game.length for game in games],
        "mean": summary.mean,
        "median": summary.median,
        "iqm": summary.iqm,
        "ci95": list(summary.ci95),
        "human_normalized": human_normalized(config.env, summary.mean),
        "share_of_teacher": None,
        "val_kl": faithful.kl if faithful else None,
        "val_action_error": faithful.action_error if faithful else None,
        "val_jacobian_cosine": faithful.jacobian_cosine if faithful else None,
        "val_total_variation": faithful.total_variation if faithful else None,
        "val_merged_action_error": faithful.merged_action_error if faithful else None,
    }


def _fidelity(config: Config, agent: Agent, device: torch.device) -> Fidelity | None:
    """A student's fidelity on its held-out games: as measured after its training, or on ``evaluate.data``."""
    if agent.student is None:
        return None
    facts = agent.student.facts
    if config.evaluate.data is None:
        return Fidelity(**{name.removeprefix("val_"): value for name, value in facts["metrics"].items()})
    dataset = Dataset(fill(config.evaluate.data, env=config.env))
    if dataset.identity.teacher != facts["teacher"]:
        raise UserError(f"student {agent.what} learned from another teacher than the one of {dataset.folder}")
    trained_here = dataset.manifest["created"] == facts["dataset"]["created"]
    if trained_here and len(dataset) != facts["dataset"]["states"]:
        raise UserError(
            f"{dataset.folder} has grown since {agent.what} was trained on it, so its held-out games cannot be told; "
            "leave --evaluate.data out or name another dataset"
        )
    held = np.arange(len(dataset))
    if trained_here:
        held = split_by_episode(dataset, facts["val_fraction"], facts["seed"])[1]
    chosen = np.sort(np.random.default_rng([facts["seed"], 5]).permutation(held)[: config.train.val_states])
    temperature = facts["objective"]["temperature"]
    return measure(agent.net, dataset, chosen, temperature=temperature, device=device, seed=config.seed)


def relate(game: str, agents: dict[str, dict[str, Any]]) -> None:
    """Share of the first teacher's mean score above random play, where both are known."""
    teachers = [facts for facts in agents.values() if facts["kind"] == "teacher"]
    if not teachers or game not in REFERENCE_SCORES:
        return
    random = REFERENCE_SCORES[game][0]
    span = teachers[0]["mean"] - random
    for facts in agents.values():
        facts["share_of_teacher"] = (facts["mean"] - random) / span if span > 0 else None


def _tensorboard(folder: Path, record: dict[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, facts in record["agents"].items():
        with SummaryWriter(str(folder / name)) as writer:
            writer.add_scalar("eval/mean_reward", facts["mean"], 0)
            writer.add_scalar("eval/mean_ep_length", float(np.mean(facts["lengths"])), 0)
            if facts["human_normalized"] is not None:
                writer.add_scalar("eval/human_normalized_score", facts["human_normalized"], 0)
            writer.add_histogram("eval/returns", np.array(facts["returns"]), 0)


HEADER = ("agent", "parameters", "mean", "95 % interval", "median", "IQM", "human-norm.", "of teacher",
          "val KL", "total variation", "action error", "merged error", "Jacobian cosine")  # fmt: skip

SCORE_COLUMNS, FIDELITY_COLUMNS = (0, 2, 3, 4, 5, 6, 7), (0, 1, 8, 9, 10, 11, 12)


def table(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """The rows of scores.json as text, in the order of ``HEADER``."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None or math.isnan(value) else format(value, form)

    return [
        (
            name,
            f"{facts['parameters']:,}",
            number(facts["mean"], ".2f"),
            f"{facts['ci95'][0]:.2f} .. {facts['ci95'][1]:.2f}",
            number(facts["median"], ".1f"),
            number(facts["iqm"], ".2f"),
            number(facts["human_normalized"], ".2f"),
            number(facts["share_of_teacher"], ".0%"),
            number(facts["val_kl"], ".4f"),
            number(facts.get("val_total_variation"), ".4f"),  # scores of earlier versions lack it
            number(facts["val_action_error"], ".1%"),
            number(facts.get("val_merged_action_error"), ".1%"),
            number(facts["val_jacobian_cosine"], ".3f"),
        )
        for name, facts in record["agents"].items()
    ]


def show(record: dict[str, Any], protocol: Protocol) -> None:
    """Print scores and, below them, fidelity: two tables that fit 80 columns."""
    title = f"{record['game']}, {record['games']} whole games each, preset {record['preset']}"
    rows = table(record)
    stacked = [name.replace(" ", "\n") for name in HEADER]  # long names over short figures
    for heading, header, columns in (
        (f"{title}\n{protocol.name}: {protocol.meaning}", HEADER, SCORE_COLUMNS),
        ("fidelity on held-out games", stacked, FIDELITY_COLUMNS),
    ):
        print_table(heading, [header[c] for c in columns], [[row[c] for c in columns] for row in rows])
