"""What is on disk is what the teacher saw, did and thought, for every state."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.agents.actor import Actor
from distill.collect.summary import Summary
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.dataset.schema import ShardArrays
from distill.dataset.shards import load_shard
from distill.envs.ale_vec import AtariVec
from distill.envs.step import Step
from distill.losses.projection import zero_sum_basis
from teachers.load import load_teacher

LANES = 3


@dataclass(eq=False)
class Half:
    """What passed between one half of the games and its actor in one run."""

    lanes: int
    obs: list[np.ndarray] = field(default_factory=list)
    """What the actor was given, uint8 (lanes, 4, 84, 84) a step."""
    acting: list[np.ndarray] = field(default_factory=list)
    """Which lanes it acted for."""
    actions: list[np.ndarray] = field(default_factory=list)
    steps: list[dict[str, np.ndarray]] = field(default_factory=list)
    """What came of it."""
    opening: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    """Steps of the script that opened the first games, (lanes,)."""
    scores: dict[tuple[int, int], float] = field(default_factory=dict)
    """Score of the game that ended in that step of that lane."""

    at: tuple[int, int] = (0, 0)
    """Step, and the number of its acting lanes that are recorded already: where the next shard begins."""

    def places(self, states: int) -> list[tuple[Half, int, int]]:
        """(half, step, lane) of the next ``states`` states, lane by lane."""
        lanes: list[list[tuple[Half, int, int]]] = [[] for _ in range(self.lanes)]
        step, done = self.at
        while states:
            acting = np.flatnonzero(self.acting[step])[done:]
            for lane in acting[:states]:
                lanes[lane].append((self, step, lane))
            if states < len(acting):
                done, states = done + states, 0
            else:
                step, done, states = step + 1, 0, states - len(acting)
        self.at = (step, done)
        return [place for lane in lanes for place in lane]


class Witness:
    """Stands between environments and actors and writes down what passes."""

    def __init__(self) -> None:
        self.halves: dict[AtariVec, Half] = {}
        self._before = threading.local()

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        act, step, reset = Actor.act, AtariVec.step, AtariVec.reset

        def seen_act(actor: Actor, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            saw = obs.copy()
            actions = act(actor, obs, rng)
            self._before.acted = (saw, actions.copy())
            return actions

        def seen_step(env: AtariVec, actions: np.ndarray) -> Step:
            acting = env._acting.copy()
            done = step(env, actions)
            acted, self._before.acted = getattr(self._before, "acted", None), None
            if acted is not None:  # not the script that opens the first games
                half = self.halves[env]
                half.scores |= {(len(half.steps), game.lane): game.score for game in done.games}
                half.obs.append(acted[0])
                half.actions.append(acted[1])
                half.acting.append(acting)
                names = ("reward", "terminated", "truncated", "life_lost")
                half.steps.append({name: getattr(done, name).copy() for name in names})
            return done

        def seen_reset(env: AtariVec, seed: Sequence[int]) -> np.ndarray:
            half = self.halves[env] = Half(env.num_envs)
            obs = reset(env, seed)
            half.opening = env.played.copy()
            return obs

        patch.setattr(Actor, "act", seen_act)
        patch.setattr(AtariVec, "step", seen_step)
        patch.setattr(AtariVec, "reset", seen_reset)

    @property
    def runs(self) -> list[list[Half]]:
        """The halves of each run, in the order of their lanes."""
        made = list(self.halves.values())
        return [sorted(made[first : first + 2], key=lambda half: -half.lanes) for first in range(0, len(made), 2)]

    def in_order_of(self, sizes: list[list[int]]) -> list[tuple[Half, int, int]]:
        """Where every state on disk was played: runs and shards in time, and in a shard lane by lane.

        Args:
            sizes: of the shards of each run.
        """
        order: list[tuple[Half, int, int]] = []
        for halves, shards in zip(self.runs, sizes, strict=True):
            for size in shards:
                later = size * halves[1].lanes // LANES
                for half, share in zip(halves, (size - later, later), strict=True):
                    order += half.places(share)
            for half in halves:
                asked = (len(half.obs), 0)
                assert half.at == asked or half.at[0] == asked[0] - 1, "the actors were asked for steps of no shard"
        return order


@dataclass
class Recorded:
    dataset: Dataset
    shards: list[ShardArrays]
    witness: Witness
    order: list[tuple[Half, int, int]]
    summaries: list[Summary]

    @property
    def scores(self) -> list[float]:
        """Of all games that ended, lowest first."""
        return sorted(score for half in self.witness.halves.values() for score in half.scores.values())


def record(
    make_config: Callable[..., Config], out: Path, env: str, counts: list[int], preset: str = "sb3", **settings: Any
) -> Recorded:
    """Collect up to each count in turn, the later ones by resuming."""
    witness, summaries = Witness(), []
    with pytest.MonkeyPatch.context() as patch:
        witness.watch(patch)
        for states in counts:
            chosen = {"out": str(out), "states": states, "num_envs": LANES, **settings}
            summaries.append(collect(make_config(env=env, preset=preset, teacher_preset=preset, collect=chosen)))
    dataset = Dataset(out, verify=True)
    shards = [load_shard(path) for path in dataset.shards]
    sizes, ends = [len(shard) for shard in shards], np.cumsum([len(shard) for shard in shards])
    runs = [[size for size, end in zip(sizes, ends, strict=True) if before < end <= count]
            for before, count in itertools.pairwise([0, *counts])]  # fmt: skip
    return Recorded(dataset, shards, witness, witness.in_order_of(runs), summaries)


@pytest.fixture(scope="module")
def breakout(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Random play loses lives and games quickly; shards of 97 end in the middle of everything."""
    out = tmp_path_factory.mktemp("breakout") / "data"
    settings = {"shard_states": 97, "behaviour": "epsilon", "epsilon": 1.0, "jacobian": "none"}
    return record(make_config, out, "breakout", [560, 700], **settings)


@pytest.fixture(scope="module")
def repeating(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The same on a preset whose stacks begin with their first frame four times."""
    out = tmp_path_factory.mktemp("repeating") / "data"
    settings = {"shard_states": 97, "behaviour": "epsilon", "epsilon": 1.0, "jacobian": "none"}
    return record(make_config, out, "breakout", [560, 700], "cleanrl", **settings)


@pytest.fixture(scope="module")
def pong(make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    out = tmp_path_factory.mktemp("pong") / "data"
    return record(make_config, out, "pong", [90], shard_states=40, k=2)


@pytest.mark.parametrize("game", ["breakout", "repeating", "pong"])
def test_stacks_from_disk_are_what_the_teacher_saw(game: str, request: pytest.FixtureRequest) -> None:
    recorded: Recorded = request.getfixturevalue(game)
    dataset = recorded.dataset
    want = np.stack([half.obs[step][lane] for half, step, lane in recorded.order])
    np.testing.assert_array_equal(dataset.stacks(np.arange(len(dataset))), want)


def test_breakout_has_what_makes_stacks_hard(breakout: Recorded) -> None:
    shards = breakout.shards
    assert [len(shard) for shard in shards] == [97] * 5 + [75] + [97] + [43]
    assert sum(int(shard.life_lost.sum()) for shard in shards) >= 10
    assert sum(int(shard.terminated.sum()) for shard in shards) >= 2
    stacks = breakout.dataset.stacks(np.arange(700))
    first = (stacks[:, :3] == 0).all((1, 2, 3))
    assert first.sum() >= 12, "stacks that hold one frame, after a game's start or a lost life"
    begins = [int(shard.pos[0]) for shard in shards]
    assert begins == [3] * len(shards)
    assert any(shard.frames[:3].any() for shard in shards[1:]), "a shard that begins in the middle of a life"


@pytest.mark.parametrize("game", ["breakout", "pong"])
def test_steps_on_disk_are_the_environments(game: str, request: pytest.FixtureRequest) -> None:
    recorded: Recorded = request.getfixturevalue(game)
    for name in ("reward", "terminated", "truncated", "life_lost"):
        want = np.array([half.steps[step][name][lane] for half, step, lane in recorded.order])
        np.testing.assert_array_equal(np.concatenate([getattr(s, name) for s in recorded.shards]), want, err_msg=name)
    actions = [half.actions[step][lane] for half, step, lane in recorded.order]
    np.testing.assert_array_equal(recorded.dataset.action, actions)


@pytest.mark.parametrize("game", ["breakout", "pong"])
def test_logits_on_disk_are_the_teachers_on_what_it_saw(game: str, request: pytest.FixtureRequest) -> None:
    recorded: Recorded = request.getfixturevalue(game)
    teacher = load_teacher(game)
    seen = np.stack([half.obs[step][lane] for half, step, lane in recorded.order])
    with torch.no_grad():
        logits, value = teacher.logits_and_value(torch.from_numpy(seen) / 255)
    np.testing.assert_allclose(recorded.dataset.logits, logits.numpy(), atol=2e-4)
    assert value is not None
    np.testing.assert_allclose(recorded.dataset.value, value.numpy(), atol=2e-4)
    assert np.ptp(recorded.dataset.logits, axis=0).min() > 0.1


def test_derivatives_on_disk_are_autograds(pong: Recorded) -> None:
    dataset, teacher = pong.dataset, load_teacher("pong")
    index = np.array([0, 41, 89])
    stored, v = dataset.jacobian(index), dataset.v
    assert v is not None
    x = torch.from_numpy(dataset.stacks(index)).float().div(255).requires_grad_()
    logits = teacher(x)
    for k in range(2):
        (want,) = torch.autograd.grad((logits * torch.from_numpy(v[index, k])).sum(), x, retain_graph=True)
        got = stored.codes[:, k].astype(np.float32) * stored.scale[:, k, ..., None]
        assert np.linalg.norm(got - want.numpy()) < 0.02 * want.norm()


def test_projections_are_fresh_unit_vectors_without_a_mean(pong: Recorded) -> None:
    v = pong.dataset.v
    assert v is not None
    assert v.shape == (90, 2, 6)
    np.testing.assert_allclose(np.linalg.norm(v, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(v.sum(-1), 0, atol=1e-5)
    # No two are alike: neither the rows of a state nor those of two shards.
    close = v.reshape(-1, 6) @ v.reshape(-1, 6).T - np.eye(180)
    assert close.max() < 1 - 1e-5


def test_scale_of_derivatives_is_the_mean_over_states_and_rows(pong: Recorded) -> None:
    stored = pong.dataset.jacobian(np.arange(90))
    rows = (stored.codes.astype(np.float32) * stored.scale[..., None]).reshape(90, 2, -1)
    assert pong.dataset.jacobian_scale == pytest.approx(float((rows**2).sum(-1).mean()), rel=0.01)


def test_games_are_numbered_and_timed(breakout: Recorded) -> None:
    dataset = breakout.dataset
    keys = list(zip(dataset.episode.tolist(), dataset.t.tolist(), strict=True))
    assert len(set(keys)) == len(keys) == 700
    clocks: dict[Half, list[np.ndarray]] = {}
    for half in breakout.witness.halves.values():
        clock, clocks[half] = half.opening, []
        for step in half.steps:
            clocks[half].append(clock)
            clock = np.where(step["terminated"] | step["truncated"], 0, clock + 1)
    np.testing.assert_array_equal(dataset.t, [clocks[half][step][lane] for half, step, lane in breakout.order])
    ended = np.concatenate([shard.terminated | shard.truncated for shard in breakout.shards])
    for game in np.unique(dataset.episode):
        mine = dataset.episode == game
        # Shards hold a lane's steps in order, so a game's clock never goes back and its end comes last.
        assert (np.diff(dataset.t[mine]) > 0).all()
        assert not ended[mine][:-1].any()
    # Three lanes begin with a game each; each finished game is followed by a new one; the resumed run too.
    assert len(np.unique(dataset.episode)) == 2 * LANES + int(ended.sum())
    assert dataset.episode.min() == 0
    assert dataset.episode[:560].max() < dataset.episode[560:].min()


def test_a_games_rewards_add_up_to_its_score(breakout: Recorded) -> None:
    reported = [game.score for record in breakout.dataset.records for game in record.games]
    assert sorted(reported) == breakout.scores
    rewards = np.concatenate([shard.reward for shard in breakout.shards])
    ended = np.flatnonzero(np.concatenate([shard.terminated for shard in breakout.shards]))
    assert len(ended) >= 2
    for last in ended:
        game = breakout.dataset.episode == breakout.dataset.episode[last]
        half, step, lane = breakout.order[last]
        assert rewards[game].sum() == half.scores[step, lane]
    assert rewards.sum() > 0


def test_summary_of_a_resumed_run(breakout: Recorded) -> None:
    first, second = breakout.summaries
    assert (first.states, first.added, first.writer) == (560, 560, "teacher")
    assert (second.states, second.added) == (700, 140)
    scores = [game.score for summary in breakout.summaries for game in summary.games]
    assert sorted(scores) == breakout.scores
    size = sum(path.stat().st_size for shard in breakout.dataset.shards for path in shard.iterdir())
    assert second.bytes_per_state == pytest.approx(size / 700)
    assert set(second.seconds) >= {"label", "write"}
    assert all(seconds > 0 for seconds in second.seconds.values())


def test_full_jacobian_and_projections_agree(
    make_config: Callable[..., Config], tmp_path: Path, pong: Recorded
) -> None:
    """J^T v of the stored full Jacobian is the stored projection of another collection of the same states."""
    settings = {"shard_states": 40, "jacobian": "full", "codec": "fp16"}
    full = record(make_config, tmp_path / "full", "pong", [40], **settings).dataset
    assert (full.identity.k, full.v) == (6, None)
    index = np.arange(40)
    np.testing.assert_array_equal(full.frames, pong.shards[0].frames)
    rows = full.jacobian(index)
    jacobian = rows.codes.astype(np.float32) * rows.scale[..., None]
    projected = pong.dataset.jacobian(index)
    assert pong.dataset.v is not None
    want = projected.codes.astype(np.float32) * projected.scale[..., None]
    got = np.einsum("nka,nachw->nkchw", pong.dataset.v[index], jacobian)
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)
    # E ||J^T v||^2 = ||J_c||^2 / (A - 1): the two laws of s agree over many v.
    centred = np.einsum("ra,nachw->nrchw", zero_sum_basis(6).numpy(), jacobian)
    mean = (centred.reshape(40, -1) ** 2).sum(-1).mean() / 5
    assert pong.dataset.jacobian_scale == pytest.approx(float(mean), rel=0.5)
