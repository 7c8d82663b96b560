"""``distill attack``: agents on recorded states with perturbed pixels. Read ``attack`` from top to bottom."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.agents.agents import Agent, find_agents
from distill.agents.folder import check_folder
from distill.agents.names import ATTACKING
from distill.attack.curves import write_curves
from distill.attack.measure import States, harm
from distill.attack.method import ATTACKS, Scene
from distill.attack.ready import find_source, try_out
from distill.attack.rows import ATTACK_FILE, Row, Terms, read_rows, show, whose, write_rows
from distill.attack.settings import AttackRun
from distill.attack.victim import Victim
from distill.dataset.reader import Dataset
from distill.dataset.used import Index, held_out, tell_repeats
from distill.errors import UserError
from distill.networks.parts import draws_from
from distill.system.alone import alone
from distill.system.device import pick_device
from distill.system.progress import console
from distill.system.settings import fill
from distill.system.streams import Stream, numbered, torch_generator


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    agent: Agent
    method: str | None
    """None leaves the pixels as they are."""
    eps: float | None
    """None where it does not matter."""

    @property
    def temperature(self) -> float:
        """The teacher's logits are divided by it, as in the student's training."""
        return self.agent.student.training.temperature if self.agent.student else 1.0


def attack(config: AttackRun) -> list[Row]:
    """See ``distill.config.stages.attack``, which checks ``config`` first."""
    a, device = config.attack, pick_device(config.device)
    agents = find_agents(config, a.agents)
    dataset = Dataset(fill(a.data, env=config.env))
    for agent in agents:
        _check(agent, dataset)
    source = find_source(config, config.threat, agents)
    try_out(a.methods, agents, source, config.threat, config.env)
    index = _states(dataset, agents, a.states, config.seed)
    folder = Path(fill(a.out, env=config.env))
    threat = asdict(config.threat) | ({} if source is None else {"source_weights": source.fingerprint})
    states_digest = hashlib.sha256(index.astype("<i8").tobytes()).hexdigest()
    terms = Terms(config.env, dataset.digest, states_digest, len(index), config.seed, threat)
    check_folder(folder, [agent.name for agent in agents], "--attack.out")
    with alone(folder, "--attack.out", ATTACKING):
        rows = read_rows(folder / ATTACK_FILE, terms)
        pixels, clean = (torch.from_numpy(part).to(device) for part in (dataset.stacks(index), dataset.logits[index]))
        states = States(pixels, clean)
        asked: list[Row] = []
        for cell in _cells(agents, a.methods, a.eps):
            row = _found(rows, cell)
            if row is None:
                row = _measure(cell, source, states, config, device)
                rows.append(row)
                write_rows(folder / ATTACK_FILE, terms, rows)
            asked.append(row)
        write_curves(folder, asked, rows)
    show(config.env, asked, len(index), config.threat)
    console.print(f"written: {folder / ATTACK_FILE}")
    return asked


def _check(agent: Agent, dataset: Dataset) -> None:
    """Refuse an agent that plays or sees something else than what was recorded."""
    if agent.student is not None:
        agent.student.task.refuse_other(dataset.task, f"student {agent.what}", "name other --attack.data")
        if not agent.student.training.teacher:
            raise UserError(f"student {agent.what} learned from no teacher to be compared with; leave it out")
        if agent.student.training.teacher != dataset.identity.teacher:
            raise UserError(f"student {agent.what} learned from another teacher than the one of {dataset.folder}")
    else:
        dataset.task.refuse_other(
            dataset.task.but(preset=agent.preset), str(dataset.folder), "name other --attack.data"
        )


def _states(dataset: Dataset, agents: Sequence[Agent], count: int, seed: int) -> np.ndarray:
    """States that no student among the agents was trained on, sorted.

    Raises:
        UserError: there are none.
    """
    index = np.arange(len(dataset))
    for agent in agents:
        if agent.student is not None:
            index = np.intersect1d(index, held_out(dataset, agent.student.training))
    if not len(index):
        raise UserError(f"{dataset.folder} has no state that none of these students was trained on; name other data")
    chosen: Index = np.sort(numbered(Stream.HELD_OUT, seed).permutation(index)[:count])
    for agent in agents:
        if agent.student is not None:
            tell_repeats(agent.name, agent.student.training, dataset, chosen)
    return chosen


def _cells(agents: Sequence[Agent], methods: Sequence[str], sizes: Sequence[float]) -> list[Cell]:
    cells = []
    for agent in agents:
        cells.append(Cell(agent, None, None))
        for method in methods:
            cells += [Cell(agent, method, eps) for eps in (sizes if ATTACKS.find(method).sized else [None])]
    return cells


def _found(rows: Sequence[Row], cell: Cell) -> Row | None:
    wanted = (cell.agent.fingerprint, cell.agent.preset, cell.temperature), cell.method, cell.eps
    for row in rows:
        if (whose(row), row["method"], row["eps"]) == wanted:
            return {**row, "agent": cell.agent.name}
    return None


def _measure(cell: Cell, source: Agent | None, states: States, config: AttackRun, device: torch.device) -> Row:
    threat, started = config.threat, time.perf_counter()
    states = dataclasses.replace(states, logits=states.logits / cell.temperature)
    agent = Victim(cell.agent.net, device, threat.draws)
    slopes = agent if source is None else Victim(source.net, device, threat.draws)
    draws = torch_generator("attacked states", config.seed, cell.method or "", f"{cell.eps or 0:g}")

    def attacked(pixels: Tensor) -> Tensor:
        if cell.method is None:
            return pixels
        return ATTACKS.find(cell.method).seen(Scene(pixels, slopes, cell.eps or 255.0, threat, draws))

    with draws_from(draws):
        found = harm(agent, states, attacked, threat.target)
    if not math.isfinite(found.kl):
        raise UserError(
            f"agent {cell.agent.name} gives NaN or infinite logits; its weights are damaged or far too large, so name "
            "another"
        )
    row: dict[str, Any] = {"agent": cell.agent.name, "fingerprint": cell.agent.fingerprint}
    row |= {"preset": cell.agent.preset, "method": cell.method, "eps": cell.eps, "temperature": cell.temperature}
    row |= asdict(found)
    seconds = time.perf_counter() - started
    where = "clean" if cell.method is None else cell.method + ("" if cell.eps is None else f" at eps {cell.eps:g}")
    console.print(f"{cell.agent.name}, {where}: flips {found.flips:.1%}, {seconds:.1f} s")
    return row | {"seconds": round(seconds, 2)}
