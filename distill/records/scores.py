"""scores.json: whole games of every agent of an evaluation (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.records.record import Kind
from distill.records.shape import Form, check_shape, count, number, optional, text

AGENT: dict[str, Form] = {
    **dict.fromkeys(("kind", "what", "fingerprint"), text),
    **dict.fromkeys(("mean", "median", "iqm"), number),
    **dict.fromkeys(("human_normalized", "share_of_teacher"), optional(number)),
    **dict.fromkeys(("val_kl", "val_action_error", "val_jacobian_cosine"), optional(number)),
    "parameters": count,
    "returns": [number],
    "lengths?": [number],
    "ci95": lambda ends: isinstance(ends, list) and len(ends) == 2 and all(map(number, ends)),
    **dict.fromkeys(("teacher?", "share_note?"), optional(text)),
    "preset?": text,
    "own_games?": lambda value: isinstance(value, bool),
}
"""What an agent's entry must say to be shown again."""
SCORES = Kind(
    "scores file",
    {
        **dict.fromkeys(("game", "preset", "protocol", "command"), text),
        "games": count,
        "seed": count,
        **dict.fromkeys(("data?", "created?"), optional(text)),
        **dict.fromkeys(("val_states?", "num_envs?"), optional(count)),
        "versions?": {},
        "agents": {"*": AGENT},
        "attack?": {},
        "figures?": {"*": dict.fromkeys(("title", "meaning", "unit", "form"), text)},
    },
    version=2,
    sealed_since=2,
)
FIGURE = "val_"
"""How the figures of fidelity begin."""
REPEATS = "repeats"
"""The share of the states that they are of that occur among the training games, where there are such."""


@dataclass(frozen=True)
class AgentScores:
    """Whole games of one agent."""

    kind: str
    """``teacher``, ``student``, or ``random`` for who plays at random."""
    what: str
    """Where it came from, as given on the command line."""
    fingerprint: str
    """SHA-256 of its weights."""
    parameters: int
    """Weights from pixels to logits, without the value head."""
    returns: Sequence[float]
    """Raw return of each game."""
    lengths: Sequence[int]
    """Agent steps of each game."""
    mean: float
    """Mean return."""
    median: float
    """Median return."""
    iqm: float
    """Interquartile mean."""
    ci95: tuple[float, float]
    """95 % interval of the mean."""
    human_normalized: float | None
    """(mean - random) / (human - random), where that is known."""
    teacher: str | None = None
    """Fingerprint of who taught it, for students; earlier versions do not tell."""
    share_of_teacher: float | None = None
    """(mean - random) / (teacher's mean - random)."""
    share_note: str | None = None
    """Why there is no share."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Figures on held-out games, ``val_kl`` and so on; None for what was not measured."""
    own_games: bool = False
    """Those figures are on states that it played itself: no games were held out from an online training."""
    preset: str | None = None
    """What it saw, where the agents of an evaluation saw different presets."""

    @staticmethod
    def told(content: Mapping[str, Any]) -> AgentScores:
        """From ``to_dict``."""
        fields: dict[str, Any] = {name: content.get(name) for name in AgentScores.__dataclass_fields__}
        metrics = {name: value for name, value in content.items() if name.startswith(FIGURE)}
        low, high = content["ci95"]
        fields |= {"metrics": metrics, "ci95": (low, high), "lengths": content.get("lengths", [])}
        return AgentScores(**fields | {"own_games": content.get("own_games", False)})

    def to_dict(self) -> dict[str, Any]:
        """As in scores.json."""
        told = {name: value for name, value in vars(self).items() if name not in ("metrics", "preset", "own_games")}
        seen = {} if self.preset is None else {"preset": self.preset}
        own = {"own_games": True} if self.own_games else {}
        return {**told, "ci95": list(self.ci95), **self.metrics, **own, **seen}


@dataclass(frozen=True)
class Scores:
    """What scores.json says."""

    game: str
    """Canonical name."""
    preset: str
    """What the agents saw, by agent where it is not the same."""
    protocol: str
    """Name of the protocol."""
    games: int
    """Whole games of each agent."""
    seed: int
    """Of the games, which depend on ``num_envs``, too."""
    command: str
    """The command that played them."""
    agents: Mapping[str, AgentScores]
    """By name, in the order of the command line."""
    data: str | None = None
    """Digest of the dataset that the figures were measured on; None for what was measured after training."""
    val_states: int | None = None
    """At most so many held-out states of ``data`` were scored; None without it, and in files of earlier versions."""
    num_envs: int | None = None
    """Games side by side; None in files of earlier versions."""
    created: str | None = None
    """When, in ISO 8601."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Of what played them."""
    figures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Figures besides the usual ones, by name: what one needs to show them (``Figure.described``)."""
    attack: Mapping[str, Any] = field(default_factory=dict)
    """What the agents played under, ``Assault.to_dict``; empty where nothing perturbed what they saw."""

    @staticmethod
    def told(content: Mapping[str, Any]) -> Scores:
        """From ``to_dict``."""
        fields = {name: content[name] for name in Scores.__dataclass_fields__ if name in content}
        agents = {name: AgentScores.told(agent) for name, agent in content["agents"].items()}
        return Scores(**fields | {"agents": agents})

    def to_dict(self) -> dict[str, Any]:
        """As in scores.json."""
        told = {**vars(self), "agents": {name: agent.to_dict() for name, agent in self.agents.items()}}
        return {name: value for name, value in told.items() if name not in ("figures", "val_states", "attack") or value}


def read_scores(path: Path) -> Scores:
    """Content of scores.json.

    Raises:
        UserError: it is missing, of a newer version, or not as ``distill evaluate`` writes it.
    """
    path = path / "scores.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} does not exist; run `distill evaluate` first, or name another with --report.scores")
    record = SCORES.read(path)
    if not record["agents"]:
        raise UserError(f"{path} has no agents; evaluate again")
    scores = Scores.told(record)
    for agent in scores.agents.values():
        check_shape(path, SCORES.what, agent.metrics, {"*": optional(number)})
    return scores


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores.json, atomically and durably."""
    SCORES.write(path, scores.to_dict())
