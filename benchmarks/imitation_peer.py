"""The peer of ``whole_job.py``: behaviour cloning with ``imitation``, as its documentation does it.

Runs in an environment of its own (``make bench-peer``), because ``imitation`` asks for an older gymnasium and
stable-baselines3 than this toolkit is tested with. ``whole_job.py`` starts it and reads the JSON that it writes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import ale_py
import gymnasium
import numpy as np
from held_out import Run, Watch
from imitation.algorithms.bc import BC
from imitation.data import rollout
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack
from torch import Tensor, nn

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
NEWER = {"clip_range": 0.0, "lr_schedule": 0.0}
"""Of the teacher's zip, what an older stable-baselines3 cannot read; only PPO's own training uses it."""


class Mnih2013(BaseFeaturesExtractor):
    """The student ``mnih2013`` up to its last hidden layer; the policy adds the head."""

    def __init__(self, observation_space: gymnasium.Space) -> None:
        super().__init__(observation_space, 256)
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 9 * 9, 256), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Float pixels in [0, 1], (B, 4, 84, 84), to features (B, 256)."""
        return self.layers(x)


def clone(args: argparse.Namespace) -> Run:
    """Rollouts, then behaviour cloning."""
    rng = np.random.default_rng(args.seed)
    watch = Watch(args.held_out, args.device)
    watch.start()
    # The checker of gymnasium 0.29 fails with NumPy 2.
    settings = {"disable_env_checker": True}
    env = VecFrameStack(make_atari_env("PongNoFrameskip-v4", args.games, env_kwargs=settings), 4)
    # Loading seeds the games, PyTorch and NumPy: with the zip's own seed if it is not replaced.
    teacher = PPO.load(args.teacher, env, args.device, custom_objects={**NEWER, "seed": args.seed})
    venv = teacher.get_env()  # with frames as the first axis
    assert venv is not None
    # Every lane plays the game that it is in to its end: with one game a lane, no state is played for nothing.
    games = rollout.rollout(
        teacher, venv, rollout.make_min_episodes(1), rng, unwrap=False, deterministic_policy=args.actions == "greedy"
    )
    transitions = rollout.flatten_trajectories(games)
    collected = watch.seconds()

    spaces = venv.observation_space, venv.action_space
    policy = ActorCriticCnnPolicy(*spaces, lambda _: 0.0, net_arch=[], features_extractor_class=Mnih2013)
    cloning = BC(
        observation_space=spaces[0], action_space=spaces[1], rng=rng, policy=policy, demonstrations=transitions,
        device=args.device,
    )  # fmt: skip

    def logits(obs: Tensor) -> Tensor:
        return policy.get_distribution(obs).distribution.logits

    with watch.following(logits):
        cloning.train(n_epochs=args.epochs, progress_bar=False)
        seconds = watch.seconds()
    return Run(len(transitions), collected, seconds, watch.points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="stable-baselines3 zip of a PPO agent")
    parser.add_argument("--actions", choices=["sampled", "greedy"], required=True, help="how the teacher acts")
    parser.add_argument("--games", type=int, required=True, help="whole games, all side by side")
    parser.add_argument("--epochs", type=int, required=True, help="passes over their states")
    parser.add_argument("--held-out", type=Path, required=True, help="states to score the student on")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    args = parser.parse_args()
    args.out.write_text(json.dumps(asdict(clone(args))))


if __name__ == "__main__":
    main()
