from __future__ import annotations

from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.atari_wrappers import NoopResetEnv
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecTransposeImage, is_vecenv_wrapped

from distill.envs.games import env_id
from distill.envs.presets import get_preset
from distill.errors import UserError
from teachers.sb3_vec import AtariVecSB3

SB3 = get_preset("sb3")
gym.register_envs(ale_py)


def _start_like(ours: AtariVecSB3, theirs: VecEnv) -> None:
    """Let SB3's lanes play the no-ops that ours last played."""
    for lane, env in zip(ours._lanes, theirs.unwrapped.envs, strict=True):  # type: ignore[attr-defined]
        while not isinstance(env, NoopResetEnv):
            env = env.env
        env.override_num_noops = lane._ale.noops


class Noops:
    """One lane's emulator, remembering how its latest game started."""

    def __init__(self, ale: Any) -> None:
        self.ale, self.noops = ale, 0

    def reset(self, **kwargs: Any) -> Any:
        obs, info = self.ale.reset(**kwargs)
        self.noops = int(info["episode_frame_number"][0])
        return obs, info

    def send(self, actions: Any) -> None:
        self.ale.send(actions)

    def recv(self) -> Any:
        result = self.ale.recv()
        if result[2][0] or result[3][0]:
            self.noops = int(result[4]["episode_frame_number"][0])
        return result

    def close(self) -> None:
        self.ale.close()


@pytest.mark.parametrize("game", ["breakout", "asterix"])
def test_every_step_is_what_make_atari_env_gives(game: str) -> None:
    rng = np.random.default_rng(0)
    ours = AtariVecSB3(game, 3, SB3, seed=4)
    for lane in ours._lanes:
        lane._ale = Noops(lane._ale)
    theirs = VecTransposeImage(VecFrameStack(make_atari_env(env_id(game), 3), 4))
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    obs = ours.reset()
    _start_like(ours, theirs)
    np.testing.assert_array_equal(obs, theirs.reset())
    lives = games = 0
    for _ in range(350):
        actions = rng.integers(ours.action_space.n, size=3)  # type: ignore[attr-defined]
        obs, rewards, dones, infos = ours.step(actions)
        _start_like(ours, theirs)
        expected = theirs.step(actions)
        np.testing.assert_array_equal(obs, expected[0])
        np.testing.assert_array_equal(rewards, expected[1])
        np.testing.assert_array_equal(dones, expected[2])
        for info, theirs_info, done in zip(infos, expected[3], dones, strict=True):
            assert info["TimeLimit.truncated"] == theirs_info["TimeLimit.truncated"]
            assert ("terminal_observation" in info) == done
            assert ("episode" in info) == ("episode" in theirs_info)
            if "episode" in info:
                games += 1
                assert info["episode"]["r"] == theirs_info["episode"]["r"]
                assert abs(info["episode"]["l"] - theirs_info["episode"]["l"]) <= 30
            elif done:
                lives += 1
                np.testing.assert_array_equal(info["terminal_observation"], theirs_info["terminal_observation"])
    ours.close()
    assert lives >= 8
    assert games >= 2


def test_rewards_are_clipped_to_their_sign_unless_asked_otherwise() -> None:
    rewards = {}
    for clip in (True, False):
        env = AtariVecSB3("asterix", 2, SB3, seed=1, clip_reward=clip)
        env.reset()
        rng = np.random.default_rng(0)
        rewards[clip] = np.array([env.step(rng.integers(9, size=2))[1] for _ in range(100)])
        env.close()
    assert rewards[False].max() >= 50
    np.testing.assert_array_equal(rewards[True], np.sign(rewards[False]))


def test_a_new_reset_starts_other_games_and_a_seed_the_same_ones() -> None:
    env = AtariVecSB3("space_invaders", 2, SB3, seed=7)
    for lane in env._lanes:
        lane._ale = Noops(lane._ale)

    def starts(seed: int | None) -> list[list[int]]:
        drawn = []
        for _ in range(4):
            if seed is not None:
                env.seed(seed)
            env.reset()
            drawn.append([lane._ale.noops for lane in env._lanes])
        return drawn

    fixed, free = starts(7), starts(None)
    assert fixed == fixed[:1] * 4
    assert len({tuple(start) for start in free}) > 1
    env.close()


def test_sb3_takes_it_as_it_is() -> None:
    torch.set_num_threads(1)
    env = AtariVecSB3("asterix", 2, SB3, seed=0)
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    assert not is_vecenv_wrapped(model.get_env(), VecTransposeImage)  # type: ignore[arg-type]
    assert env.env_is_wrapped(Monitor) == [True, True]
    assert env.get_attr("game") == ["asterix", "asterix"]
    with pytest.raises(AttributeError, match="cannot set game"):
        env.set_attr("game", "pong")
    model.learn(16)
    # Whole games: random play scores tens of points in each, with clipped rewards it could not.
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=2, deterministic=False, return_episode_rewards=True)
    assert all(score >= 50 and score % 50 == 0 for score in returns)  # type: ignore[union-attr]
    assert min(lengths) > 300  # type: ignore[arg-type]
    env.close()


@pytest.mark.parametrize("num_envs", [0, -1, 5000])
def test_number_of_lanes_is_checked(num_envs: int) -> None:
    with pytest.raises(UserError, match="num_envs must be between 1 and 1024"):
        AtariVecSB3("pong", num_envs, SB3, seed=0)


def test_second_sight_is_of_the_same_moment() -> None:
    """The second stacks of the preset that is played are the first ones, through lost lives and scripts."""
    preset = get_preset("sb3")
    env = AtariVecSB3("breakout", 2, preset, seed=3, second=preset)
    obs, rng, lost = env.reset(), np.random.default_rng(0), 0
    for _ in range(150):
        assert env.second_obs is not None
        np.testing.assert_array_equal(obs, env.second_obs)
        before = env.second_obs
        obs, _, dones, _ = env.step(rng.integers(4, size=2))
        lost += int(dones.sum())
        assert env.second_obs is not before
    assert lost > 2
    env.close()
