"""The shapes in which agents lie about: rl-zoo's run folders, unpacked and re-zipped agents, students."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.cli.command import main
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.networks.nets import NETS, AtariCNN, NetSpec, to_unit
from distill.students.folder import save_student
from distill.task import Task
from teachers.layouts import bundled_teachers, locate
from teachers.load import load_teacher

PONG = bundled_teachers()["pong-ppo"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of rl-zoo; the final agent is Pong's, the others are not even zips."""
    folder = tmp_path / "logs" / "ppo" / "PongNoFrameskip-v4_1"
    (folder / "PongNoFrameskip-v4").mkdir(parents=True)
    (folder / "PongNoFrameskip-v4" / "args.yml").write_text("env: PongNoFrameskip-v4\n")
    shutil.copy(PONG, folder / "PongNoFrameskip-v4.zip")
    for name in ("best_model", "rl_model_1000_steps"):
        (folder / f"{name}.zip").write_bytes(b"not a zip")
    return folder


@pytest.mark.parametrize("end", ["", "/", "/PongNoFrameskip-v4", "/PongNoFrameskip-v4/", "/PongNoFrameskip-v4.zip"])
def test_run_folder_means_its_final_agent(run: Path, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{run}{end}"
    assert locate(name) == run / "PongNoFrameskip-v4.zip"
    teacher = load_teacher(name)
    assert (teacher.info.game, teacher.info.fingerprint) == ("pong", load_teacher("pong").info.fingerprint)
    assert main(["info", name]) == 0
    assert "pong" in capsys.readouterr().out


def test_other_agents_of_a_run_by_name(run: Path) -> None:
    for name in ("best_model", "rl_model_1000_steps.zip"):
        with pytest.raises(UserError, match="is not a readable zip file"):
            load_teacher(str(run / name), game="pong")
    shutil.copy(PONG, run / "best_model.zip")
    assert load_teacher(str(run / "best_model")).info.game == "pong"  # as its folder says


def test_a_run_without_its_final_agent_asks_for_a_name(run: Path) -> None:
    (run / "PongNoFrameskip-v4.zip").unlink()
    with pytest.raises(UserError, match=r"give one of its zips by name: best_model\.zip, rl_model_1000_steps\.zip"):
        load_teacher(str(run))


def test_a_run_folder_renamed(run: Path) -> None:
    moved = run.rename(run.parent / "mine")
    assert locate(str(moved)) == moved / "PongNoFrameskip-v4.zip"


@pytest.mark.parametrize("prefix", ["", "x/", "deep/er/"])
def test_unpacked_and_zipped_again(tmp_path: Path, prefix: str) -> None:
    with zipfile.ZipFile(PONG) as archive:
        archive.extractall(tmp_path / "pong")
    with zipfile.ZipFile(tmp_path / "again-pong.zip", "w") as archive:
        for file in (tmp_path / "pong").iterdir():
            archive.write(file, prefix + file.name)
        archive.writestr("__MACOSX/x/._policy.pth", "Finder")
    want = load_teacher("pong").info.fingerprint
    for name in (f"{tmp_path}/pong", f"{tmp_path}/pong/", f"{tmp_path}/again-pong.zip", f"{tmp_path}/again-pong"):
        teacher = load_teacher(name, game="pong")
        assert teacher.info.fingerprint == want
        assert teacher.info.algorithm == "PPO/A2C"


def test_a_zip_of_several_agents(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "both-pong.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/policy.pth", "x")
    with pytest.raises(UserError, match=r"holds several agents \(a/, b/\); unpack it and give one of its folders"):
        load_teacher(str(tmp_path / "both-pong.zip"))


def test_home_and_no_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PONG, tmp_path / "my-pong.zip")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_teacher("~/my-pong").info.game == "pong"


def test_folders_without_an_agent(tmp_path: Path, pong_data: Path) -> None:
    with pytest.raises(UserError, match="is a dataset, not an agent"):
        load_teacher(str(pong_data))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no agent's zip is in it; give another path"):
        load_teacher(str(tmp_path / "empty"))
    (tmp_path / "empty" / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="no finished student at"):
        load_teacher(str(tmp_path / "empty"))


@pytest.mark.parametrize("spec", [NETS["nature"], NETS["mnih2013"], NetSpec(((4, 8, 4),), (9, 7), "recu")], ids=str)
def test_students_teach(tmp_path: Path, spec: NetSpec) -> None:
    preset = get_preset("sb3-fast")
    net = AtariCNN(spec, 4)
    save_student(tmp_path / "run" / "student", net, Task("breakout", preset.name, preset.hash, 4))
    shutil.copy(tmp_path / "run" / "student" / "student.zip", tmp_path / "exported.zip")
    x = to_unit(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 4, 84, 84), dtype=np.uint8)))
    seen = set()
    for name in ("run", "run/student", "run/student/", "run/student/student.zip", "exported.zip", "exported"):
        teacher = load_teacher(str(tmp_path / name))
        assert torch.equal(teacher(x), net(x))
        assert teacher.logits_and_value(x)[1] is None
        info = teacher.info
        assert (info.game, info.preset, info.algorithm, info.num_actions) == ("breakout", "sb3-fast", "student", 4)
        seen.add(info.fingerprint)
    assert len(seen) == 1
    with pytest.raises(UserError, match="plays breakout, not pong"):
        load_teacher(str(tmp_path / "exported.zip"), game="pong")
    with pytest.raises(UserError, match=r"is of preset sb3-fast .* not sb3 "):
        load_teacher(str(tmp_path / "exported.zip"), preset="sb3")
