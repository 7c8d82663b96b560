"""What stands in writing about an agent: its game, and an environment that the presets do not play."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from distill.errors import UserError
from teachers.envs import find_env_ids, objection_to_id, objections, run_env_id
from teachers.load import agent_game, load_teacher
from teachers.papers import game_in_name
from teachers.plain_yaml import read_plain_yaml

Agent = tuple[BaseAlgorithm, Path]
Place = Callable[..., Path]
ZOO = """!!python/object/apply:collections.OrderedDict
- - - {key}
    - {value}
"""


@pytest.fixture
def place(tmp_path: Path, ppo: Agent) -> Place:
    """``place("logs/x.zip", {"logs/args.yml": "env: ..."})``: the PPO agent (6 actions), and text files."""

    def copy(name: str, texts: dict[str, str] | None = None) -> Path:
        for path, text in (texts or {}).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ppo[1], tmp_path / name)
        return tmp_path / name

    return copy


# -- the game -------------------------------------------------------------------------------------

SI, PONG = "SpaceInvadersNoFrameskip-v4", "PongNoFrameskip-v4"


@pytest.mark.parametrize(
    ("name", "texts", "game", "where"),
    [
        (f"ppo-{SI}.zip", {}, "space_invaders", "its file name"),
        (f"logs/a2c/{SI}_3/best_model.zip", {}, "space_invaders", f"the folder {SI}_3"),
        (
            f"{SI}_1/best_model.zip",
            {f"{SI}_1/{SI}/args.yml": ZOO.format(key="env", value=SI)},
            "space_invaders",
            r"args\.yml",
        ),
        ("best_model.zip", {"args.yml": f"algo: ppo\nenv: {SI}\n"}, "space_invaders", r"args\.yml"),
        ("best_model.zip", {"config.yml": f"env_id: {PONG}\n"}, "pong", r"config\.yml"),
        (f"{PONG}_1/best_model.zip", {f"{PONG}_1/{PONG}/config.yml": ""}, "pong", f"the folder {PONG}"),
        ("runs/space_invaders/best_model.zip", {}, "space_invaders", "the folder space_invaders"),
        ("x.zip", {"x.md": f"---\ntags:\n- {SI}\n- atari\n---\n"}, "space_invaders", "its card"),
        (
            "x.zip",
            {"x.md": f"---\nmodel-index:\n- results:\n  - dataset:\n      name: {PONG}\n---\n"},
            "pong",
            "its card",
        ),
    ],
)
def test_who_tells_the_game(place: Place, name: str, texts: dict[str, str], game: str, where: str) -> None:
    path = place(name, texts)
    told = agent_game(str(path))
    assert told is not None
    assert told[0] == game
    assert where.replace("\\", "") in told[1]
    assert load_teacher(str(path)).info.game == game
    other = "pong" if game != "pong" else "space_invaders"
    with pytest.raises(UserError, match=rf"plays {game}, not {other}; choose another teacher or game \(.*{where}"):
        load_teacher(str(path), game=other)


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("agents/best.zip", f"agents/{PONG}_1"),
        ("agents/best.zip", f"agents/{PONG}"),
        (f"agents/{SI}_1/best.zip", f"agents/{SI}_1/{PONG}"),
        (f"agents/{SI}.zip", f"agents/{PONG}"),
    ],
)
def test_the_folder_of_another_agent_tells_nothing(place: Place, name: str, beside: str) -> None:
    path = str(place(name, {f"{beside}/args.yml": f"env: {PONG}\nframe_stack: 2\n"}))
    told = agent_game(path)
    assert told is None or told[0] == "space_invaders"
    assert load_teacher(path, game="space_invaders").info.game == "space_invaders"


def test_a_moved_agent_has_its_settings_in_the_folder_of_its_name(place: Place) -> None:
    path = place(f"mine/{PONG}.zip", {f"mine/{PONG}/args.yml": "frame_stack: 2\n"})
    with pytest.raises(UserError, match="frame_stack 2, not 4"):
        load_teacher(str(path))


def test_papers_that_disagree(place: Place) -> None:
    path = place(f"ppo-{PONG}.zip", {"args.yml": f"env: {SI}\n"})
    for game in (None, "pong", "space_invaders"):
        with pytest.raises(UserError, match=r"args\.yml says space_invaders, but its file name says pong; correct or"):
            load_teacher(str(path), game=game)


@pytest.mark.parametrize(
    "name",
    [
        "PongNoFrameskip-v4_BreakoutNoFrameskip-v4.zip",
        "PongNoFrameskip-v4-then-space-invaders.zip",
        "pong_space_invaders.zip",
        "space-invaders from Pong.zip",
    ],
)
def test_a_file_named_after_two_games_tells_none(place: Place, name: str) -> None:
    path = str(place(name))
    with pytest.raises(UserError, match=r"cannot tell which game .*; name it with --env"):
        load_teacher(path)
    assert load_teacher(path, game="pong").info.game == "pong"


@pytest.mark.parametrize(("name", "game"), [("ms-pacman-2.zip", "ms_pacman"), ("Pong pong PONG.zip", "pong")])
def test_words_of_a_longer_name_are_not_another_game(name: str, game: str) -> None:
    assert game_in_name(name.removesuffix(".zip")) == game


def test_a_link_does_not_hide_what_it_links_to(place: Place, tmp_path: Path) -> None:
    (tmp_path / "link.zip").symlink_to(place("SpaceInvadersNoFrameskip-v4.zip"))
    (tmp_path / "pong.zip").symlink_to(place("SpaceInvadersNoFrameskip-v4.zip"))
    assert agent_game(str(tmp_path / "link.zip")) == ("space_invaders", "the name of the file that it links to")
    with pytest.raises(UserError, match="its file name says pong, but the name of the file that it links to says sp"):
        load_teacher(str(tmp_path / "pong.zip"))


@pytest.mark.parametrize("text", ["env: breakout", "env_id: BreakoutNoFrameskip-v4", "env: ALE/Breakout-v5"])
def test_a_bare_game_in_settings_counts(place: Place, text: str) -> None:
    with pytest.raises(UserError, match=r"args\.yml says breakout, but its file name says pong"):
        load_teacher(str(place("pong.zip", {"args.yml": text})))


@pytest.mark.parametrize(
    ("text", "says"),
    [("game: pnog", "its card names an unknown game 'pnog'"), ("preset: sb", "its card names an unknown preset 'sb'")],
)
def test_who_names_what_is_unknown(place: Place, text: str, says: str) -> None:
    with pytest.raises(UserError, match=f"teacher .*pong.zip: {says} .*correct it"):
        load_teacher(str(place("pong.zip", {"pong.md": f"---\n{text}\n---\n"})))


def test_a_folder_called_like_a_game_gives_way_to_better_evidence(place: Place) -> None:
    assert load_teacher(str(place(f"pong/ppo-{SI}.zip"))).info.game == "space_invaders"


@pytest.mark.parametrize(
    ("text", "env", "game"),
    [
        ("ppo-PongNoFrameskip-v4", "PongNoFrameskip-v4", "pong"),
        ("models--sb3--dqn-SpaceInvadersNoFrameskip-v4", "SpaceInvadersNoFrameskip-v4", "space_invaders"),
        ("ALE/Pong-v5", "ALE/Pong-v5", "pong"),
        ("ppo-ALE-Pong-v5", "ALE-Pong-v5", "pong"),
        ("Pong-ramNoFrameskip-v4", "Pong-ramNoFrameskip-v4", "pong"),
    ],
)
def test_ids(text: str, env: str, game: str) -> None:
    assert find_env_ids(text) == [(env, game)]


@pytest.mark.parametrize("text", ["pong-v4", "best_model", "CartPole-v1", "MyPong-v4", "Pong-v4x", "Pong"])
def test_no_ids(text: str) -> None:
    assert find_env_ids(text) == []


def test_run_folders() -> None:
    assert run_env_id("PongNoFrameskip-v4_12") == run_env_id("PongNoFrameskip-v4") == "PongNoFrameskip-v4"
    assert run_env_id("ppo_1") is None


# -- another environment --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("Pong-v4", "a random frame skip"),
        ("Pong-v0", "a random frame skip .* sticky actions"),
        ("PongDeterministic-v4", "a frame skip of 4"),
        ("PongDeterministic-v0", "a frame skip of 4 .* sticky"),
        ("PongNoFrameskip-v0", "has sticky actions"),
        ("ALE/Pong-v5", r"sticky actions \(0.25\), and a frame skip of 4"),
        ("Pong-ram-v4", "memory instead of the screen"),
    ],
)
def test_ids_of_other_emulators(place: Place, env: str, says: str) -> None:
    assert objection_to_id("PongNoFrameskip-v4") is objection_to_id("pong") is objection_to_id("Pong") is None
    by_name, by_settings = place(f"ppo-{env.replace('/', '-')}.zip"), place("a/x.zip", {"a/args.yml": f"env: {env}\n"})
    for path in (by_name, by_settings):
        with pytest.raises(UserError, match=rf"another environment .*Pong.* {says}.*; --preset=sb3 plays it on that"):
            load_teacher(str(path))
        assert load_teacher(str(path), preset="sb3").info.preset == "sb3"
    assert load_teacher("pong", game=env.replace("-ram", "")).info.game == "pong"  # as a game's name it is a spelling


WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frame_stack: 1", "frame_stack 1, not 4"),
        ("frame_stack: 4.0", None),
        (f"env_wrapper: {WRAPPER}", None),
        (f"env_wrapper:\n- {WRAPPER}\nframe_stack: 4", None),
        (f"env_wrapper:\n- {WRAPPER}:\n    clip_reward: false", None),
        (f"env_wrapper:\n- {WRAPPER}:\n    frame_skip: 4\n    terminal_on_life_loss: true", None),
        (f"env_wrapper:\n- {WRAPPER}:\n    frame_skip: 2", "env_wrapper AtariWrapper with frame_skip 2, not 4"),
        (f"env_wrapper:\n- {WRAPPER}:\n    terminal_on_life_loss: false", "with terminal_on_life_loss False, not True"),
        (f"env_wrapper:\n- {WRAPPER}:\n    screen_size: 64", "with screen_size 64, not 84"),
        (f"env_wrapper:\n- {WRAPPER}\n- mine.Mirror", r"env_wrapper mine\.Mirror, not AtariWrapper"),
        ("env_wrapper: null", "env_wrapper None, not AtariWrapper"),
        ("env_wrapper: [[1]]", r"env_wrapper \[1\], not AtariWrapper"),
        ("vec_env_wrapper: null", None),
        ("vec_env_wrapper: [stable_baselines3.common.vec_env.VecCheckNan: {raise_exception: true}]", None),
        ("vec_env_wrapper: x.VecFrameStack", r"vec_env_wrapper x\.VecFrameStack, which may change what"),
        ("vec_env_wrapper:\n- VecMonitor\n- mine.Noise: {level: 3}", r"vec_env_wrapper mine\.Noise, which may"),
        ("hyperparams: null", None),
        ("hyperparams: {learning_rate: 0.1}\nframe_stack: 4", None),
        ("hyperparams: {frame_stack: 2}", "frame_stack 2, not 4"),
        ("normalize: true", "normalize True"),
        ("normalize: {norm_obs: true, norm_reward: false}", "normalize .*norm_obs"),
        ("normalize: \"{'norm_obs': False, 'norm_reward': True}\"", None),
        ("normalize: dict(norm_obs=False, norm_reward=True)", None),
        ("normalize: true\nnormalize_kwargs: {norm_obs: false}", None),
        ("env_kwargs:\n  full_action_space: true", "env_kwargs with full_action_space True, not False"),
        ("env: ALE/Pong-v5\nenv_kwargs:\n  frameskip: 1\n  repeat_action_probability: 0.0", None),
    ],
)
def test_settings_of_other_environments(place: Place, text: str, says: str | None) -> None:
    path = place("run/pong.zip", {"run/config.yml": text})
    if says is None:
        assert load_teacher(str(path)).info.game == "pong"
        return
    with pytest.raises(UserError, match=rf"{says}.*config\.yml\); --preset=sb3 plays"):
        load_teacher(str(path))
    assert load_teacher(str(path), preset="sb3-fast").info.preset == "sb3-fast"


def test_as_rl_zoo_writes_them(place: Place) -> None:
    """Ordered dictionaries under tags that would build objects."""
    settings = ZOO.format(key="env_wrapper", value=f"- {WRAPPER}") + "  - - frame_stack\n    - 2\n"
    path = place("pong.zip", {"config.yml": settings})
    with pytest.raises(UserError, match="frame_stack 2, not 4"):
        load_teacher(str(path))


# -- YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (ZOO.format(key="env", value="x"), {"env": "x"}),
        ("- - env\n  - x\n- - n\n  - 3\n", {"env": "x", "n": 3}),
        ("a: !!python/tuple [1, 2]", {"a": [1, 2]}),
        ("a: !!python/name:torch.nn.modules.activation.ReLU ''", {"a": "torch.nn.modules.activation.ReLU"}),
        ("a: !!python/object:some.Class {b: 1}", {"a": {"b": 1}}),
        ("", {}),
        ("- algo", {}),
    ],
)
def test_yaml_as_plain_data(tmp_path: Path, text: str, want: dict[str, Any]) -> None:
    (tmp_path / "x.yml").write_text(text)
    assert read_plain_yaml(tmp_path / "x.yml") == want
    assert read_plain_yaml(tmp_path / "none.yml") == {}


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.mkdir", "python/object/new:os.mkdir", "python/object/apply:builtins.eval"]
)
def test_hostile_yaml_runs_nothing(place: Place, tmp_path: Path, tag: str) -> None:
    text = f"env: {PONG}\nx: !!{tag}\n- {tmp_path / 'hacked'}\n"
    assert load_teacher(str(place("x.zip", {"args.yml": text}))).info.game == "pong"
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("text", ["env: [", "a: 1\nb: b: c", "\tenv: x", "? [a]\n: 1", "!!mine x", "\x00"])
def test_broken_yaml_is_one_sentence(place: Place, text: str) -> None:
    with pytest.raises(UserError, match=r"args\.yml: the agent's settings are not YAML .*; correct or remove it"):
        load_teacher(str(place("pong.zip", {"args.yml": text})))


def test_yaml_too_large_to_be_settings(place: Place) -> None:
    with pytest.raises(UserError, match=r"args\.yml: .* cannot be read \(it is longer than 1,048,576 bytes\)"):
        load_teacher(str(place("pong.zip", {"args.yml": "# " + "x" * 2**20})))


@pytest.mark.parametrize(
    "text",
    ["env: PongNoFrameskip-v4\nenv: BreakoutNoFrameskip-v4", "- - env\n  - a\n- - env\n  - b", "a: {b: 1, b: 2}"],
)
def test_repeated_settings_are_refused(place: Place, text: str) -> None:
    with pytest.raises(UserError, match=r"args\.yml: the agent's settings cannot be read \('.*' .*is a duplicate"):
        load_teacher(str(place("pong.zip", {"args.yml": text})))


def test_settings_that_expand_to_too_much_are_refused(place: Place) -> None:
    text = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for above, name in zip("abcde", "bcdef", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n"
    with pytest.raises(UserError, match=r"args\.yml: .* expands to more than 200,000 values"):
        load_teacher(str(place("pong.zip", {"args.yml": text})))


def test_objections_come_in_the_order_of_their_fields() -> None:
    assert objections({"frame_stack": 4, "env_kwargs": None, "n_envs": 8}) == []
    assert len(objections({"env": "Pong-v4", "frame_stack": 1, "env_wrapper": "x.Y"})) == 3
