"""Naming a teacher: bundled, on disk, with or without a card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from distill.envs.games import canonical_game
from distill.envs.presets import PRESETS
from distill.errors import UserError
from distill.networks.nets import NETS
from distill.system.files import sha256
from teachers import layouts
from teachers.card import read_card
from teachers.load import bundled_teachers, find_teacher, load_teacher

ROOT = Path(__file__).parents[2]
Agent = tuple[BaseAlgorithm, Path]
Rezip = Callable[..., Path]
Edit = Callable[[Path, Callable[[dict[str, torch.Tensor]], Any]], Path]


@pytest.fixture
def place(tmp_path: Path, ppo: Agent) -> Callable[..., Path]:
    """``place("x.zip", card="game: pong")``: the PPO agent (6 actions) under a name, with a card."""

    def copy(name: str, card: str | None = None, agent: Path = ppo[1]) -> Path:
        path = tmp_path / name
        shutil.copy(agent, path)
        if card is not None:
            path.with_suffix(".md").write_text(f"---\n{card}\n---\n# An agent\n")
        return path

    return copy


# Bundled agents


@pytest.mark.parametrize("name", ["pong", "pong-ppo"])
def test_bundled_pong(name: str) -> None:
    teacher = load_teacher(name)
    info = teacher.info
    assert (info.name, info.game, info.algorithm, info.preset) == (name, "pong", "PPO", "sb3")
    assert (info.num_actions, info.tau) == (6, None)
    assert info.parameters == sum(p.numel() for p in teacher.parameters()) == 1_687_719
    assert teacher.net.spec == NETS["nature"]
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    x = torch.rand(2, 4, 84, 84, requires_grad=True)
    logits, value = teacher.logits_and_value(x)
    assert value is not None
    assert (logits.shape, value.shape) == ((2, 6), (2,))
    torch.testing.assert_close(teacher(x), logits)
    assert torch.autograd.grad(logits[:, 0].sum(), x)[0].abs().sum() > 0  # frozen, yet derivatives reach the pixels


@pytest.mark.parametrize("name", ["space-invaders", "space_invaders", "space-invaders-ppo"])
def test_spellings_of_a_bundled_name(name: str) -> None:
    assert find_teacher(name).path.name == "space-invaders-ppo.zip"


@pytest.mark.parametrize("name", bundled_teachers())
def test_cards_of_bundled_agents(name: str) -> None:
    path = bundled_teachers()[name]
    card = read_card(path.with_suffix(".md"))
    assert card["sha256"] == sha256(path)
    assert card["game"] == canonical_game(card["game"])
    assert card["preset"] in PRESETS
    assert card["library_name"] == "stable-baselines3"
    assert card["license"] in ("apache-2.0", "mit")
    means = {score["protocol"]: str(score["mean"]) for score in card["scores"]}
    row = " | ".join(means.get(protocol, "") for protocol in ("zoo", "zoo-greedy", "machado")).replace("|  |", "| |")
    assert f"| `{name}` | {row} |" in (ROOT / "docs" / "teachers.md").read_text()
    text = path.with_suffix(".md").read_text()
    for score in card["scores"]:
        assert score["preset"] in PRESETS
        row = rf"`{score['protocol']}`.*`{score['preset']}` \| ([\d.]+) ± ([\d.]+) \| {score['games']} \|"
        (shown,) = re.findall(row, text)
        assert [float(number) for number in shown] == [score["mean"], score["standard_error"]]
    (metric,) = card["model-index"][0]["results"][0]["metrics"]
    main = card["scores"][0]
    assert [float(number) for number in metric["value"].split(" +/- ")] == [main["mean"], main["standard_error"]]
    assert f"{load_teacher(name).info.parameters:,} parameters" in text


def test_bundled_agent_changed_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundled_teachers()["pong-ppo"]
    (tmp_path / "pong-ppo.zip").write_bytes(path.read_bytes() + b" ")
    shutil.copy(path.with_suffix(".md"), tmp_path)
    monkeypatch.setattr(layouts, "PRETRAINED", tmp_path)
    with pytest.raises(UserError, match=r"pong-ppo\.zip does not match the sha256 on its card .*reinstall"):
        load_teacher("pong")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("pnog", "pong"), ("breakout-imitatd", "breakout-imitated"), ("space_invader", "space_invaders")],
)
def test_unknown_name_suggests_the_nearest(name: str, suggestion: str) -> None:
    with pytest.raises(UserError, match=rf"unknown teacher '{name}' \(did you mean '{suggestion}'\?\).*pong-ppo"):
        load_teacher(name)


# Files on disk


def test_missing_zip(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"no teacher at {tmp_path}/none\.zip"):
        load_teacher(str(tmp_path / "none.zip"))


def test_home_folder(place: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = place("pong.zip")
    monkeypatch.setenv("HOME", str(path.parent))
    assert load_teacher("~/pong.zip").info.game == "pong"


@pytest.mark.parametrize(
    ("name", "game"),
    [
        ("ppo-PongNoFrameskip-v4.zip", "pong"),
        ("my_pong_best.zip", "pong"),
        ("a2c-SpaceInvadersNoFrameskip-v4.zip", "space_invaders"),
        ("space-invaders-final.zip", "space_invaders"),
    ],
)
def test_game_from_the_file_name(place: Callable[..., Path], name: str, game: str) -> None:
    info = load_teacher(str(place(name))).info
    assert (info.game, info.algorithm, info.preset) == (game, "PPO/A2C", "sb3")


@pytest.mark.parametrize("name", ["best_model.zip", "pong-and-boxing.zip"])
def test_no_telling_which_game(place: Callable[..., Path], name: str) -> None:
    path = str(place(name))
    with pytest.raises(UserError, match=rf"cannot tell which game .*{name} plays; name it with --env"):
        load_teacher(path)
    assert load_teacher(path, game="ALE/Pong-v5").info.game == "pong"


def test_wrong_number_of_actions(place: Callable[..., Path]) -> None:
    message = r"chooses among 6 actions but breakout has 4; it was trained on another game"
    with pytest.raises(UserError, match=message):
        load_teacher(str(place("ppo-BreakoutNoFrameskip-v4.zip")))
    with pytest.raises(UserError, match=message):
        load_teacher(str(place("agent.zip")), game="breakout")
    with pytest.raises(UserError, match=r"plays pong, not breakout; choose another .*its file name says so"):
        load_teacher(str(place("ppo-PongNoFrameskip-v4.zip")), game="breakout")


def test_unknown_game(place: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"unknown game 'pnog' \(did you mean 'pong'\?\)"):
        load_teacher(str(place("x.zip")), game="pnog")


# Cards


def test_card_fills_in_the_rest(place: Callable[..., Path]) -> None:
    path = place("agent.zip", "game: PongNoFrameskip-v4\nalgorithm: A2C\npreset: sb3-fast")
    info = load_teacher(str(path)).info
    assert (info.game, info.algorithm, info.preset) == ("pong", "A2C", "sb3-fast")
    assert load_teacher(str(path), preset="sb3").info.preset == "sb3"


def test_card_of_another_game(place: Callable[..., Path]) -> None:
    path = place("agent.zip", "game: pong")
    assert load_teacher(str(path), game="PongNoFrameskip-v4").info.game == "pong"
    with pytest.raises(UserError, match=r"plays pong, not space_invaders; choose another"):
        load_teacher(str(path), game="space_invaders")
    with pytest.raises(UserError, match=r"teacher pong plays pong, not breakout"):
        load_teacher("pong", game="breakout")


def test_card_of_another_file(place: Callable[..., Path]) -> None:
    path = place("agent.zip")
    path.with_suffix(".md").write_text(f"---\ngame: pong\nsha256: {sha256(path).upper()}\n---")
    assert load_teacher(str(path)).info.game == "pong"
    path.with_suffix(".md").write_text(f"---\ngame: pong\nsha256: {'0' * 64}\n---")
    with pytest.raises(UserError, match=r"agent\.zip does not match the sha256 on its card .*agent\.md"):
        load_teacher(str(path))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("game: [pong", r"agent\.md: its front matter is not YAML"),
        ("game: pnog", "unknown game 'pnog'"),
        ("game: pong\npreset: sb", r"unknown preset 'sb' \(did you mean 'sb3'\?\)"),
    ],
)
def test_bad_cards(place: Callable[..., Path], card: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(str(place("agent.zip", card)))


def test_card_that_is_not_text(place: Callable[..., Path]) -> None:
    path = place("pong.zip")
    path.with_suffix(".md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"pong\.md is not a readable model card"):
        load_teacher(str(path))


@pytest.mark.parametrize("text", ["", "# Pong\n", "---\njust text\n---\n", "----\ngame: pong\n----\n"])
def test_markdown_without_front_matter_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.md").write_text(text)
    assert read_card(tmp_path / "x.md") == {}


@pytest.mark.parametrize(
    "text", ["---\r\ngame: pong\r\n---\r\n", "\ufeff---\ngame: pong\n--- \n# x", "---\ngame: pong\n---"]
)
def test_front_matter_as_editors_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.md").write_bytes(text.encode())
    assert read_card(tmp_path / "x.md") == {"game": "pong"}


# Identity


def test_fingerprint_is_of_the_weights(
    place: Callable[..., Path], ppo: Agent, rezip: Rezip, edit_weights: Edit
) -> None:
    same = load_teacher(str(place("a-pong.zip"))).info.fingerprint
    repacked = rezip(ppo[1], {"data": b"{}", "system_info.txt": None})
    assert load_teacher(str(repacked), game="pong", tau=0.5).info.fingerprint == same
    nudged = edit_weights(ppo[1], lambda w: w["action_net.bias"][0].add_(1e-3))
    assert load_teacher(str(nudged), game="pong").info.fingerprint != same


def test_fingerprint_of_q_values_includes_tau(qrdqn: Agent, obs: np.ndarray) -> None:
    cold, warm = (load_teacher(str(qrdqn[1]), game="pong", tau=tau) for tau in (0.01, 1.0))
    assert (cold.info.algorithm, cold.info.tau, warm.info.tau) == ("QR-DQN", 0.01, 1.0)
    assert cold.info.fingerprint != warm.info.fingerprint
    x = torch.from_numpy(obs).float() / 255
    torch.testing.assert_close(cold(x) / 100, warm(x))
    assert cold.logits_and_value(x)[1] is None
