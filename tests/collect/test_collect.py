"""Going on, refusing, and who acts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.agents.actor import Actor, Policy
from distill.collect.summary import Summary
from distill.config.config import Config
from distill.config.stages import collect
from distill.dataset.reader import Dataset
from distill.dataset.schema import GAME_BITS, GAME_MASK
from distill.dataset.shards import load_shard
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec
from distill.students.folder import load_student, save_student
from distill.system.files import read_json
from distill.task import Task
from teachers.load import load_teacher

MakeConfig = Callable[..., Config]
QUICK = {"states": 24, "num_envs": 2, "shard_states": 16, "jacobian": "none"}

TASK = Task("pong", "sb3", get_preset("sb3").hash, 6)


@pytest.fixture(scope="module")
def run_in(make_config: MakeConfig) -> Callable[..., Summary]:
    """``run_in(folder, env="pong", states=24, ...)``: a quick collection."""

    def start(out: Path, **settings: Any) -> Summary:
        top = {name: settings.pop(name) for name in ("env", "teacher", "preset", "seed") if name in settings}
        return collect(make_config(collect={**QUICK, **settings, "out": str(out)}, **top))

    return start


@pytest.fixture
def run(run_in: Callable[..., Summary], tmp_path: Path) -> Callable[..., Summary]:
    """``run(out="data", ...)``: the same below ``tmp_path``."""
    return lambda out="data", **settings: run_in(tmp_path / out, **settings)


@pytest.fixture(scope="module")
def two_states(run_in: Callable[..., Summary], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset for those who are refused."""
    out = tmp_path_factory.mktemp("two") / "data"
    run_in(out, states=2, shard_states=2)
    return out


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained student that clearly prefers one action."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    net = AtariCNN(NetSpec(((4, 8, 4),), (8,)), 6)
    with torch.no_grad():
        net.policy.bias[3] = 5.0
    save_student(folder / "student", net, TASK)
    return folder


def shards_of(folder: Path) -> dict[str, Any]:
    return {path.parent.name: read_json(path, "record")["files"] for path in folder.glob("shards/*/shard.json")}


def test_same_command_continues_and_then_has_nothing_to_do(run: Callable[..., Summary], tmp_path: Path) -> None:
    run(states=20)
    before = shards_of(tmp_path / "data")
    assert [len(load_shard(path)) for path in Dataset(tmp_path / "data").shards] == [16, 4]
    summary = run(states=30)
    assert (summary.states, summary.added) == (30, 10)
    after = shards_of(tmp_path / "data")
    assert {name: after[name] for name in before} == before
    assert run(states=30).added == 0
    assert shards_of(tmp_path / "data") == after
    dataset = Dataset(tmp_path / "data", verify=True)
    assert len(set(zip(dataset.episode, dataset.t, strict=True))) == 30
    # The second run began its own games, from other starts.
    assert len(np.unique(dataset.episode)) == 4
    assert dataset.episode[:20].max() < dataset.episode[20:].min()
    assert not np.array_equal(dataset.action[:10], dataset.action[20:])


def games_of(folder: Path) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """What is recorded of every game, by writer and number."""
    data = Dataset(folder)
    jacobian = data.jacobian(np.arange(len(data)))
    columns = {"t": data.t, "action": data.action, "v": data.v, "codes": jacobian.codes}
    columns["stack"] = data.stacks(np.arange(len(data)))
    games = np.unique(data.episode)
    names = {game: (data.writers[game >> GAME_BITS], int(game & GAME_MASK)) for game in games.tolist()}
    return {names[game]: {name: part[data.episode == game] for name, part in columns.items()} for game in games}


@pytest.mark.parametrize("env", ["pong", "breakout"])
@pytest.mark.parametrize("settings", [{"behaviour": "epsilon", "epsilon": 0.5}, {"sticky": 0.25}])
def test_a_game_is_the_same_whatever_is_played_beside_and_before_it(
    run: Callable[..., Summary], tmp_path: Path, env: str, settings: dict[str, Any]
) -> None:
    """Lanes, shards and interruptions decide which games are recorded, not what is in them."""
    quick = {**settings, "env": env, "jacobian": "projected", "k": 2}
    run("a", states=800, num_envs=2, shard_states=300, **quick)
    run("b", states=1500, num_envs=5, shard_states=97, **quick)
    run("c", states=60, num_envs=4, shard_states=60, **quick)
    run("c", states=400, num_envs=3, shard_states=200, **quick)
    a, *others = (games_of(tmp_path / out) for out in "abc")
    for other in others:
        shared = a.keys() & other.keys()
        assert len(shared) >= 2
        for game in shared:
            length = min(len(a[game]["t"]), len(other[game]["t"]))
            assert length >= 15
            # Nothing is left out where a shard ends; Pong has no scripted steps within a game.
            assert env != "pong" or (np.diff(a[game]["t"]) == 1).all()
            for name, column in a[game].items():
                np.testing.assert_array_equal(column[:length], other[game][name][:length], err_msg=f"{game}: {name}")


def test_continuing_with_other_lanes_plays_new_games(run: Callable[..., Summary], tmp_path: Path) -> None:
    for states, num_envs in ((60, 4), (120, 2), (180, 4), (240, 3)):
        run(states=states, num_envs=num_envs, shard_states=60, jacobian="projected")
    games = games_of(tmp_path / "data")
    assert len(games) == 13
    beginnings = {game["action"][:10].tobytes() for game in games.values()}
    assert len(beginnings) == 13


def test_going_on_repeats_no_game_where_one_half_ends_more_games(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Lanes 0 and 1 are one half, lane 2 the other; each half numbers its own games, and both go on after the last."""
    played = {"env": "breakout", "behaviour": "epsilon", "epsilon": 1.0, "num_envs": 3, "shard_states": 300}
    seen: dict[int, bytes] = {}
    before = 0
    for states in (1200, 1320, 1440):
        run(states=states, **played)
        data = Dataset(tmp_path / "data")
        new = sorted(set((data.episode[before:] & GAME_MASK).tolist()))
        assert new[0] > max(seen, default=-1), "a game was played again"
        seen |= {number: data.action[data.episode & GAME_MASK == number][:10].tobytes() for number in new}
        before = states
    assert len(set(seen.values())) == len(seen)


def test_writers_of_one_seed_play_different_games(run: Callable[..., Summary], tmp_path: Path) -> None:
    for writer in ("a", "b"):
        run(writer=writer, states=80, num_envs=4, shard_states=40, jacobian="projected")
    games = games_of(tmp_path / "data")
    assert {name for name, _ in games} == {"a", "b"}
    assert len({game["action"][:10].tobytes() for game in games.values()}) == len(games) == 8
    assert len({game["v"][:1].tobytes() for game in games.values()}) == 8


@pytest.mark.parametrize(("states", "shard_states", "num_envs"), [(1, 8, 8), (17, 5, 3), (15, 15, 4)])
def test_count_is_exact(
    run: Callable[..., Summary], tmp_path: Path, states: int, shard_states: int, num_envs: int
) -> None:
    assert run(states=states, shard_states=shard_states, num_envs=num_envs).states == states
    sizes = [len(load_shard(path)) for path in Dataset(tmp_path / "data").shards]
    assert sizes == [shard_states] * (states // shard_states) + [states % shard_states] * (states % shard_states > 0)


def test_one_uninterrupted_collection_is_a_function_of_the_seed(run: Callable[..., Summary], tmp_path: Path) -> None:
    for out, seed in (("a", 5), ("b", 5), ("c", 6)):
        run(out, seed=seed, jacobian="projected")
    a, b, c = (shards_of(tmp_path / out) for out in "abc")
    assert a == b
    assert all(a[name]["steps.safetensors"] != c[name]["steps.safetensors"] for name in a)
    assert all(a[name]["jacobian.npy"] != c[name]["jacobian.npy"] for name in a)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"preset": "sb3-fast"}, "preset is sb3, not sb3-fast"),
        ({"env": "breakout"}, "game is pong, not breakout"),
        ({"jacobian": "projected"}, "jacobian is none, not projected"),
        ({"jacobian": "projected", "law": "fisher"}, "law is sphere, not fisher"),
        ({"jacobian": "projected", "space": "probs"}, "space is logits, not probs"),
        ({"jacobian": "projected", "codec": "fp16"}, "codec is int8, not fp16"),
        ({"seed": 2}, "writer 'teacher' of .* acted differently: seed is 1, not 2"),
        ({"behaviour": "greedy"}, "behaviour is sampled, not greedy"),
        ({"sticky": 0.25}, "sticky is 0.0, not 0.25"),
    ],
)
def test_other_settings_are_refused_and_named(
    run_in: Callable[..., Summary], two_states: Path, changed: dict[str, Any], message: str
) -> None:
    before = shards_of(two_states)
    with pytest.raises(UserError, match=message):
        run_in(two_states, states=4, shard_states=2, **changed)
    assert shards_of(two_states) == before


def test_other_teacher_is_refused(run_in: Callable[..., Summary], two_states: Path, other_pong_zip: Path) -> None:
    ours = load_teacher("pong").info.fingerprint
    theirs = load_teacher(str(other_pong_zip), game="pong").info.fingerprint
    with pytest.raises(UserError, match=f"teacher is {ours}, not {theirs}; choose another --collect.out"):
        run_in(two_states, states=4, shard_states=2, teacher=str(other_pong_zip))


def test_greedy_takes_the_teachers_best_action(run: Callable[..., Summary], tmp_path: Path) -> None:
    run(behaviour="greedy")
    dataset = Dataset(tmp_path / "data")
    np.testing.assert_array_equal(dataset.action, dataset.logits.argmax(-1))


def test_sampled_follows_the_policy(run: Callable[..., Summary], tmp_path: Path) -> None:
    run(states=300, shard_states=100)
    dataset = Dataset(tmp_path / "data")
    pi = torch.softmax(torch.from_numpy(dataset.logits), -1).numpy()
    share = np.bincount(dataset.action, minlength=6) / 300
    # Three standard errors of a share of 300 independent draws, at most.
    np.testing.assert_allclose(share, pi.mean(0), atol=3 * 0.5 / 300**0.5)
    assert (dataset.action != dataset.logits.argmax(-1)).any()
    assert pi[np.arange(300), dataset.action].mean() == pytest.approx((pi**2).sum(-1).mean(), abs=0.1)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_epsilon_greedy_extremes(run: Callable[..., Summary], tmp_path: Path, epsilon: float) -> None:
    run(states=200, shard_states=100, behaviour="epsilon", epsilon=epsilon)
    dataset = Dataset(tmp_path / "data")
    share = (dataset.action == dataset.logits.argmax(-1)).mean()
    assert share == pytest.approx(1 - epsilon + epsilon / 6, abs=0.1 * epsilon)
    assert len(set(dataset.action)) == 6 or epsilon == 0


def test_student_acts_and_teacher_labels(run: Callable[..., Summary], tmp_path: Path, student: Path) -> None:
    summary = run(actor=str(student), behaviour="greedy")
    assert summary.writer == f"student-{load_student(student).fingerprint[:8]}"
    dataset = Dataset(tmp_path / "data")
    assert (dataset.action == 3).all()
    assert (dataset.logits.argmax(-1) != 3).any()
    x = torch.from_numpy(dataset.stacks(np.arange(24))) / 255
    np.testing.assert_allclose(dataset.logits, load_teacher("pong")(x).numpy(), atol=2e-4)


def test_teacher_and_student_fill_one_dataset(run: Callable[..., Summary], tmp_path: Path, student: Path) -> None:
    run()
    run(actor=str(student))
    dataset = Dataset(tmp_path / "data", verify=True)
    assert len(dataset) == 48
    assert sorted(set(dataset.writer)) == [0, 1]
    # The same command of either goes on as that writer.
    assert run(actor=str(student), states=26).added == 2
    assert run(states=25).added == 1


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_mixture_takes_the_teachers_action_on_its_share_of_steps(
    run: Callable[..., Summary], tmp_path: Path, student: Path, beta: float
) -> None:
    summary = run(actor=str(student), beta=beta, behaviour="greedy", states=200, shard_states=100)
    assert summary.writer == f"mix{100 * beta:.0f}-{load_student(student).fingerprint[:8]}"
    dataset = Dataset(tmp_path / "data")
    best = dataset.logits.argmax(-1)
    tell = best != 3
    assert ((dataset.action == best) | (dataset.action == 3)).all()
    assert (dataset.action == best)[tell].mean() == pytest.approx(beta, abs=0.15 * (beta < 1))


def test_students_that_do_not_fit_are_refused(run: Callable[..., Summary], student: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"plays pong, not breakout; set --env or --collect\.actor"):
        run(actor=str(student), env="breakout")
    with pytest.raises(UserError, match=r"is of preset sb3 \(\w+\), not sb3-fast \(\w+\); choose another actor"):
        run(actor=str(student), preset="sb3-fast")
    with pytest.raises(UserError, match="no finished student at"):
        run(actor=str(tmp_path))
    assert not (tmp_path / "data").exists()


def test_another_student_of_the_same_name_is_another_writer(
    run: Callable[..., Summary], tmp_path: Path, student: Path
) -> None:
    """A student trained again at the same place must not go on in the first one's stream."""
    first = run(actor=str(student)).writer
    net = load_student(student).net
    with torch.no_grad():
        net.policy.bias[0] += 1
    save_student(tmp_path / "again" / "student", net, TASK)
    assert run(actor=str(tmp_path / "again")).writer != first


def test_actor_draws_from_the_policy() -> None:
    """The Gumbel trick on known odds: 1 to 2 to 4."""

    class Fixed(Policy):
        def __init__(self) -> None:
            pass

        def logits(self, obs: np.ndarray) -> torch.Tensor:
            return torch.tensor([1.0, 2.0, 4.0]).log().expand(len(obs), 3)

    obs = np.zeros((70_000, 4, 1, 1), np.uint8)
    counts = np.bincount(Actor(Fixed()).act(obs, np.random.default_rng(0)))
    np.testing.assert_allclose(counts / 10_000, [1, 2, 4], atol=0.05)
