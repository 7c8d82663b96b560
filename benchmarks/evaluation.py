"""How fast whole games are evaluated, against stable-baselines3's ``evaluate_policy``.

    python benchmarks/evaluation.py --out runs/bench/evaluation.json

The bundled Pong agent plays 32 games on protocol ``zoo`` (sampled actions, no sticky ones, whole games, raw
scores) both ways: ours as ``distill evaluate`` plays them by default, theirs with ``PPO.load`` of the same zip
and ``evaluate_policy`` on ``make_atari_env`` + ``VecFrameStack``, 8 games side by side (DummyVecEnv), in a process
with PyTorch's own settings. Both sides give every lane the same number of games. Making the games is part of an
evaluation and is timed on both sides.

How long a game lasts is chance, so the details also give agent steps per second, besides the scores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

from measure import Elsewhere, Row, main  # first: it sets the process up, before PyTorch is imported

# isort: split

import torch

from distill.agents.episodes import Match, play
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.evaluate.settings import EvaluateConfig
from distill.system.device import pick_device
from teachers.load import find_teacher, load_teacher
from teachers.protocol import Teacher

TEACHER = "pong-ppo"
PEER_LANES = 8


@dataclass
class Played:
    """One evaluation."""

    seconds: float
    scores: list[float]
    steps: list[int]
    """Agent steps of each game."""


def ours(teacher: Teacher, games: int, seed: int, device: torch.device) -> Played:
    """As ``distill evaluate`` plays by default."""
    settings = EvaluateConfig()
    started = time.perf_counter()
    info, protocol = teacher.info, get_protocol(settings.protocol)
    match = Match(teacher.net, info.game, get_preset(info.preset), protocol, device)
    played = play(match, games=games, num_envs=settings.num_envs, seed=seed)
    seconds = time.perf_counter() - started
    return Played(seconds, [game.score for game in played], [game.length for game in played])


def theirs(peer: Elsewhere) -> Played:
    """``evaluate_policy``."""
    seconds = peer.turn(1)
    return Played(seconds, peer.result["scores"], peer.result["steps"])


def assert_same_agent(teacher: Teacher) -> None:
    """The teacher's zip as stable-baselines3 loads it is the same network."""
    from stable_baselines3 import PPO

    model = PPO.load(find_teacher(TEACHER).path, device="cpu")
    generator = torch.Generator().manual_seed(0)
    obs = torch.randint(0, 256, (16, 4, 84, 84), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        expected = torch.log_softmax(teacher.net(obs / 255), -1)
        logits = model.policy.get_distribution(obs).distribution.logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def summary(played: list[Played]) -> dict[str, object]:
    """What goes into the details."""
    steps = [step for one in played for step in one.steps]
    return {
        "seconds": [round(one.seconds, 2) for one in played],
        "steps_per_second": round(sum(steps) / sum(one.seconds for one in played)),
        "mean_score": round(statistics.mean(score for one in played for score in one.scores), 2),
        "mean_steps_of_a_game": round(statistics.mean(steps)),
    }


def measure(args: argparse.Namespace) -> list[Row]:
    games, rounds = (4, 1) if args.quick else (32, 2)
    device = pick_device(args.device)
    teacher = load_teacher(TEACHER)
    assert_same_agent(teacher)
    lanes = min(PEER_LANES, games)
    played: dict[str, list[Played]] = {"ours": [], "SB3": []}
    with Elsewhere(program="evaluation", teacher=TEACHER, lanes=lanes, games=games, device=args.device) as peer:
        for number in range(rounds):
            played["ours"].append(ours(teacher, games, 1 + 1000 * number, device))
            played["SB3"].append(theirs(peer))
    seconds = {name: statistics.median(one.seconds for one in every) for name, every in played.items()}
    rates = {name: round(games / value, 3) for name, value in seconds.items()}
    details = {"games": games, "rounds": rounds, "games_per_second": rates}
    details |= {name: summary(every) for name, every in played.items()}
    return [
        Row(
            f"evaluation, {games} games of Pong", f"SB3 evaluate_policy, {lanes} Dummy envs",
            seconds["SB3"] / seconds["ours"], "x", ">= 2", details,
        )
    ]  # fmt: skip


if __name__ == "__main__":
    main(measure, __doc__ or "")
