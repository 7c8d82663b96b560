from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.agents.own_states import match_of, own_states
from distill.cli import export as module
from distill.cli.command import main
from distill.cli.export import FORMATS, export
from distill.errors import UserError
from distill.networks.nets import AtariCNN, NetSpec, to_unit
from distill.students.folder import Student, load_student, save_student
from distill.students.sb3 import save_sb3_zip
from distill.system.files import read_json, sha256, write_json
from distill.task import Task
from teachers.load import load_teacher


def test_onnx_gives_the_same_logits(saved: Student, tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    ort = pytest.importorskip("onnxruntime")
    export(saved, "onnx", tmp_path / "student.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]
    session = ort.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3, 16):
        x = to_unit(torch.from_numpy(obs[:count]))
        (logits,) = session.run(["logits"], {"pixels": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, saved.net(x).numpy(), atol=1e-4)


def test_onnx_of_an_activation_that_is_ours(tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    ort = pytest.importorskip("onnxruntime")
    net = AtariCNN(NetSpec(((4, 8, 4),), (8,), "recu"), 6)
    save_student(tmp_path / "student", net, Task("pong", "sb3", "739e34ec987e", 6))
    student = load_student(tmp_path)
    export(student, "onnx", tmp_path / "student.onnx")
    session = ort.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    x = to_unit(torch.from_numpy(obs))
    (logits,) = session.run(["logits"], {"pixels": x.numpy()})
    with torch.no_grad():
        want = student.net(x).numpy()
    assert np.linalg.norm(logits - want) < 1e-5 * np.linalg.norm(want)


def test_onnx_of_band_limits_and_of_noise(tmp_path: Path, obs: npt.NDArray[np.uint8]) -> None:
    ort = pytest.importorskip("onnxruntime")
    spec, task = NetSpec(((4, 8, 4), (6, 4, 2)), (8,), band_limit=(0.5, 0.3)), Task("pong", "sb3", "739e34ec987e", 6)
    for name, options in {
        "limited": {},
        "calm": {"noise": "white", "noise_at_play": False},
        "noisy": {"noise": "white"},
    }.items():
        save_student(tmp_path / name, AtariCNN(replace(spec, **options), 6), task)
    x = to_unit(torch.from_numpy(obs))
    for name in ("limited", "calm"):
        student = load_student(tmp_path / name)
        export(student, "onnx", tmp_path / f"{name}.onnx")
        session = ort.InferenceSession(tmp_path / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"pixels": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, student.net(x).numpy(), atol=1e-5)
    with pytest.raises(UserError, match="draws noise at play, which an ONNX file cannot; train it with"):
        export(load_student(tmp_path / "noisy"), "onnx", tmp_path / "noisy.onnx")


def test_int8_is_calibrated_on_its_own_games(saved: Student, tmp_path: Path) -> None:
    """Exact twice over, and near the student where it plays."""
    ort = pytest.importorskip("onnxruntime")
    for name in ("a.onnx", "b.onnx"):
        export(saved, "int8", tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    session = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    x = to_unit(torch.from_numpy(own_states(match_of(saved), 64, seed=1)))
    (logits,) = session.run(["logits"], {"pixels": x.numpy()})
    with torch.no_grad():
        want = saved.net(x).numpy()
    assert 0 < np.linalg.norm(logits - want) < 0.05 * np.linalg.norm(want)


def test_safetensors_are_the_weights(saved: Student, net: AtariCNN, tmp_path: Path) -> None:
    export(saved, "safetensors", tmp_path / "weights.safetensors")
    weights, want = load_file(tmp_path / "weights.safetensors"), net.state_dict()
    assert weights.keys() == want.keys()
    assert all(torch.equal(weights[name], want[name]) for name in want)


def test_sb3_is_the_zip(saved: Student, tmp_path: Path) -> None:
    export(saved, "sb3", tmp_path / "new" / "folder" / "agent.zip")
    assert (tmp_path / "new" / "folder" / "agent.zip").read_bytes() == (saved.folder / "student.zip").read_bytes()


def test_a_link_that_leads_nowhere_is_left_alone(saved: Student, tmp_path: Path) -> None:
    """What it leads to may be on a disk that is not there now."""
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "file")
    with pytest.raises(UserError, match="out exists; choose another --out"):
        export(saved, "sb3", tmp_path / "out")
    assert (tmp_path / "out").is_symlink()


@pytest.mark.parametrize(
    ("form", "name", "says"),
    [
        ("onnx", "y.zip", "ends like sb3, but --format is onnx; give --format=sb3, or a name that ends in .onnx"),
        ("int8", "y.safetensors", "ends like safetensors, but --format is int8; give --format=safetensors, or a name"),
        ("sb3", "y.ONNX", "ends like onnx, but --format is sb3; give --format=onnx, or a name that ends in .zip"),
    ],
)
def test_a_name_that_ends_like_another_format_is_refused(
    saved: Student, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str, says: str
) -> None:
    words = [] if form == "onnx" else ["--format", form]  # onnx is what it is by default
    assert main(["export", str(saved.folder), "--out", str(tmp_path / name), *words]) == 1
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Noisy(AtariCNN):
    """A program's network, for all that the toolkit knows."""

    def __init__(self, actions: int) -> None:
        super().__init__(NetSpec(((4, 8, 4),), (8,), noise="white"), actions)


def test_what_has_a_sentence_is_not_blamed_on_the_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    save_student(tmp_path / "run", Noisy(6), Task("pong", "sb3", "739e34ec987e", 6), network=f"{__name__}:Noisy")
    with pytest.raises(UserError, match=r"^this student draws noise at play, which an ONNX file cannot"):
        export(load_student(tmp_path / "run"), "onnx", tmp_path / "y.onnx")


@pytest.mark.parametrize("form", FORMATS)
def test_an_existing_file_is_refused(saved: Student, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    out.write_text("precious")
    with pytest.raises(UserError, match=f"{out} exists; choose another --out"):
        export(saved, form, out)
    assert out.read_text() == "precious"


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--out", f"{tmp_path}/new/"]) == 1
    assert capsys.readouterr().err == (
        f"error: --out {tmp_path}/new/ is a folder; name a file in it, as {tmp_path}/new/student.onnx\n"
    )


def test_unknown_format_suggests_the_nearest(saved: Student, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown format 'onxx' \(did you mean 'onnx'\?\); known: onnx, int8, safetensors, sb3"
    ):
        export(saved, "onxx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_nothing(saved: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(student: Student, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_onnx", fail)
    with pytest.raises(OSError, match="no space left"):
        export(saved, "onnx", tmp_path / "student.onnx")
    assert list(tmp_path.iterdir()) == []


# -- files that are not those that training wrote -------------------------------------------------


@pytest.fixture
def copy(saved: Student, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved.folder, tmp_path / "student"))


def forget_checksums(folder: Path) -> None:
    """As in students of earlier versions."""
    path = folder / "student.json"
    newer = ("sha256", "version", "checksum")
    write_json(path, {name: value for name, value in read_json(path, "record").items() if name not in newer})


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("old", [False, True], ids=["checksums", "none"])
def test_a_rotten_zip_is_not_exported(copy: Path, tmp_path: Path, old: bool) -> None:
    if old:
        forget_checksums(copy)
    export(load_student(copy), "sb3", tmp_path / "good.zip")
    flip_a_bit(copy / "student.zip")
    with pytest.raises(UserError, match=r"student\.zip is damaged; restore it from a copy, or train the student again"):
        export(load_student(copy), "sb3", tmp_path / "bad.zip")
    assert not (tmp_path / "bad.zip").exists()


@pytest.mark.parametrize("old", [False, True], ids=["checksums", "none"])
def test_another_students_zip_is_not_exported(copy: Path, tmp_path: Path, net: AtariCNN, old: bool) -> None:
    if old:
        forget_checksums(copy)
    save_sb3_zip(AtariCNN(net.spec, net.num_actions), copy / "student.zip")
    with pytest.raises(UserError, match=r"student\.zip is damaged"):
        export(load_student(copy), "sb3", tmp_path / "bad.zip")


@pytest.mark.parametrize("old", [False, True], ids=["checksums", "none"])
def test_a_lost_zip_is_written_anew_from_the_weights(copy: Path, tmp_path: Path, old: bool) -> None:
    if old:
        forget_checksums(copy)
    (copy / "student.zip").unlink()
    student = load_student(copy)
    export(student, "sb3", tmp_path / "new.zip")
    agent, x = load_teacher(str(tmp_path / "new.zip")), torch.rand(3, 4, 84, 84)
    assert (agent.info.task, agent.info.fingerprint) == (student.task, student.fingerprint)
    with torch.no_grad():
        torch.testing.assert_close(agent(x), student.net(x), rtol=0, atol=0)
    assert not (copy / "student.zip").exists()


def test_weights_written_anew_are_not_what_training_wrote(copy: Path, tmp_path: Path) -> None:
    """The same values in another order of bytes: harmless, but not the file that was signed."""
    weights = load_file(copy / "model.safetensors")
    save_file(weights, copy / "model.safetensors", metadata={"by": "someone else"})
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        export(load_student(copy), "safetensors", tmp_path / "bad")
    forget_checksums(copy)
    export(load_student(copy), "safetensors", tmp_path / "good")


def test_checksums_are_those_of_the_files(saved: Student) -> None:
    assert saved.record.sha256 == {name: sha256(saved.folder / name) for name in ("model.safetensors", "student.zip")}
