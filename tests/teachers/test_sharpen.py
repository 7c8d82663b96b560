from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from stable_baselines3 import PPO

from distill.errors import UserError
from distill.students.folder import Student
from distill.system.files import sha256
from teachers.card import read_card
from teachers.load import PRETRAINED, load_teacher
from teachers.sharpen import main, sharpen


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_logits_are_divided_and_nothing_else_changes(tmp_path: Path, temperature: float) -> None:
    out = sharpen("pong", tmp_path / "pong-sharp.zip", temperature)
    before, after = load_teacher("pong"), load_teacher(str(out))
    pixels = torch.rand(4, 4, 84, 84)
    with torch.no_grad():
        torch.testing.assert_close(after.net(pixels), before.net(pixels) / temperature)
    changed = {name for name, value in after.net.state_dict().items() if not value.equal(before.net.state_dict()[name])}
    assert changed == {"policy.weight", "policy.bias"}
    assert after.info.game == "pong"
    assert PPO.load(out).policy.action_net.out_features == 6


def test_the_card_goes_along(tmp_path: Path) -> None:
    """But for scores: what the agent sees is not guessed, nor is its game."""
    agent = tmp_path / "mine.zip"
    shutil.copyfile(PRETRAINED / "pong-ppo.zip", agent)
    scores = "[{protocol: zoo, preset: async-rl, mean: 3}]"
    agent.with_suffix(".md").write_text(f"---\ngame: pong\npreset: async-rl\nlicense: mit\nscores: {scores}\n---\n")
    out = sharpen(str(agent), tmp_path / "sharp.zip", 0.5)
    info = load_teacher(str(out)).info
    assert (info.game, info.preset) == ("pong", "async-rl")
    card = read_card(tmp_path / "sharp.md")
    assert card == {"game": "pong", "preset": "async-rl", "license": "mit", "sha256": sha256(out)}
    (tmp_path / "other.md").write_text("mine")
    with pytest.raises(UserError, match=r"other.md exists; choose another name"):
        sharpen(str(agent), tmp_path / "other.zip", 0.5)


def test_an_agent_of_another_environment_stays_one(tmp_path: Path) -> None:
    """What refuses the agent stands beside it, where its copy would not be."""
    run, out = tmp_path / "PongNoFrameskip-v4_1", tmp_path / "sharp.zip"
    (run / "PongNoFrameskip-v4").mkdir(parents=True)
    shutil.copyfile(PRETRAINED / "pong-ppo.zip", run / "PongNoFrameskip-v4.zip")
    settings = run / "PongNoFrameskip-v4" / "args.yml"
    settings.write_text("env: PongNoFrameskip-v4\nenv_kwargs: {repeat_action_probability: 0.25}\n")
    with pytest.raises(UserError, match=r"another environment .*repeat_action_probability 0\.25.*--preset=sb3 plays"):
        sharpen(str(run), out, 0.5)
    assert not out.exists()
    assert main([str(run), str(out), "--temperature", "0.5", "--preset", "sb3-fast"]) == 0
    assert read_card(tmp_path / "sharp.md")["preset"] == load_teacher(str(out)).info.preset == "sb3-fast"


def test_a_students_zip_is_a_zip(saved: Student, tmp_path: Path) -> None:
    out = sharpen(str(saved.folder / "student.zip"), tmp_path / "sharp.zip", 0.5)
    pixels = torch.rand(4, 4, 84, 84)
    with torch.no_grad():
        torch.testing.assert_close(load_teacher(str(out))(pixels), saved.net(pixels) / 0.5)
    with pytest.raises(UserError, match="plays on its own preset, sb3; leave --preset out"):
        sharpen(str(saved.folder / "student.zip"), tmp_path / "other.zip", 0.5, "sb3-fast")
    with pytest.raises(UserError, match="is a folder; give the zip of a stable-baselines3 agent"):
        sharpen(str(saved.folder), tmp_path / "other.zip", 0.5)


def test_what_cannot_be_sharpened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.zip"
    out.write_bytes(b"mine")
    assert main(["pong", str(out), "--temperature", "0.5"]) == 1
    assert capsys.readouterr().err == f"error: {out} exists; choose another name\n"
    assert out.read_bytes() == b"mine"
    for value in ("0", "nan"):
        assert main(["pong", str(tmp_path / "x.zip"), "--temperature", value]) == 1
        assert capsys.readouterr().err.startswith("error: --temperature must be positive")
    assert main(["pong", f"{tmp_path}/x/", "--temperature", "1"]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/x/ is a folder; name a file in it, as ")
    q_values = tmp_path / "dqn.zip"
    with zipfile.ZipFile(q_values, "w") as archive:
        torch.save({"q_net.q_net.0.weight": torch.zeros(6, 512)}, buffer := tmp_path / "policy.pth")
        archive.write(buffer, "policy.pth")
    assert main([str(q_values), str(tmp_path / "x.zip"), "--temperature", "1"]) == 1
    assert "it gives Q-values, and --tau is the temperature of those" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
