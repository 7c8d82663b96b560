"""Agents as ONNX files: a student in float32 and in int8, other people's files, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from distill.cli.command import main
from distill.errors import UserError
from distill.networks.nets import NETS, AtariCNN, count_parameters, to_unit
from distill.students.folder import Student
from distill.students.onnx_file import PAPERS, write_int8, write_onnx
from teachers.formats.onnx_file import OnnxPolicy
from teachers.load import agent_game, load_teacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def files(saved: Student, obs: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A student in both forms; the int8 one is calibrated on half of ``obs``."""
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(saved.net, folder / "float32.onnx", saved.task)
    write_int8(saved.net, folder / "int8.onnx", saved.task, obs[::2])
    return {path.stem: path for path in folder.iterdir()}


def logits(policy: nn.Module, obs: npt.NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = policy(to_unit(torch.from_numpy(obs)))
    return found


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_student_plays_as_an_onnx_file(
    files: dict[str, Path], form: str, saved: Student, obs: npt.NDArray[np.uint8]
) -> None:
    teacher = load_teacher(str(files[form]))
    assert (teacher.info.game, teacher.info.preset, teacher.info.algorithm) == ("breakout", "sb3", "student")
    assert agent_game(str(files[form])) == ("breakout", "its data")
    assert count_parameters(teacher.net) == count_parameters(saved.net)
    want = logits(saved.net, obs)
    error = (logits(teacher, obs) - want).norm() / want.norm()
    assert error < (1e-5 if form == "float32" else 0.05)
    assert logits(teacher, obs[:1]).shape == (1, 4)


def test_int8_is_int8(files: dict[str, Path], saved: Student) -> None:
    """A quarter of the bytes; a scale for each output channel; the levels of a pixel are the codes."""
    assert files["int8"].stat().st_size < 0.27 * files["float32"].stat().st_size
    model = onnx.load(files["int8"])
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    scales = {node.input[0]: node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    weights = {name: array for name, array in arrays.items() if array.dtype == np.int8 and array.size > 100}
    assert len(weights) >= 4
    for name, array in weights.items():
        if name in scales:
            assert arrays[scales[name]].shape == array.shape[:1]
            assert np.abs(array).max(axis=tuple(range(1, array.ndim))).min() == 127
    assert arrays["pixels_scale"] == np.float32(1 / 255)
    assert arrays["pixels_zero_point"] == -128


def test_the_file_is_the_agent(
    files: dict[str, Path], saved: Student, obs: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    """The same weights again are the same agent; other codes are another one."""
    write_int8(saved.net, tmp_path / "again.onnx", saved.task, obs[::2])
    write_int8(saved.net, tmp_path / "other.onnx", saved.task, obs[:3])
    first, again, other = (
        load_teacher(str(path)).info.fingerprint
        for path in (files["int8"], tmp_path / "again.onnx", tmp_path / "other.onnx")
    )
    assert first == again != other


def test_all_networks_have_an_int8_form(saved: Student, obs: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    torch.manual_seed(0)
    for name in ("rusu-7", "rusu-1"):
        net = AtariCNN(NETS[name], 4)
        with torch.no_grad():
            net.policy.weight.mul_(200)
            for name_of, parameter in net.named_parameters():
                if name_of.endswith("bias"):  # zeros would be left out of the file
                    parameter.normal_(0, 0.1)
        write_int8(net, tmp_path / f"{name}.onnx", saved.task, obs)
        teacher, want = load_teacher(str(tmp_path / f"{name}.onnx")), logits(net, obs)
        assert count_parameters(teacher.net) == count_parameters(net)
        assert (logits(teacher, obs) - want).norm() < 0.05 * want.norm()


def test_a_file_of_someone_elses_needs_its_game(saved: Student, tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    write_onnx(saved.net, path, saved.task)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"cannot tell which game .*agent\.onnx plays; name it with --env"):
        load_teacher(str(path))
    info = load_teacher(str(path), game="breakout").info
    assert (info.game, info.preset, info.algorithm) == ("breakout", "sb3", "ONNX")
    with pytest.raises(UserError, match="chooses among 4 actions but pong has 6"):
        load_teacher(str(path), game="pong")


def test_it_has_no_derivatives(files: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    teacher = load_teacher(str(files["float32"]))
    with pytest.raises(UserError, match="is an ONNX file, which has no derivatives"):
        teacher(torch.rand(2, 4, 84, 84, requires_grad=True))
    words = [f"--teacher={files['float32']}", "--collect.states=32", "--collect.num_envs=2", "--device=cpu"]
    assert main(["collect", *words, f"--collect.out={tmp_path / 'data'}", "--collect.jacobian=none"]) == 0
    assert main(["collect", *words, f"--collect.out={tmp_path / 'more'}"]) == 1
    assert "has no derivatives; ask for none (--collect.jacobian=none)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"onnx?", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_file_is_refused(files: dict[str, Path], content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    path.write_bytes(files["float32"].read_bytes()[:5000] if content is None else content)
    with pytest.raises(UserError, match=r"agent\.onnx is no ONNX file of an agent, from float pixels"):
        load_teacher(str(path), game="breakout")


def test_weights_that_are_constants_are_weights(files: dict[str, Path], tmp_path: Path) -> None:
    """As some exporters write them; another agent's are another fingerprint."""
    found = []
    for number, factor in enumerate((1.0, 2.0)):
        model = onnx.load(files["float32"])
        for one in list(model.graph.initializer):
            array = onnx.numpy_helper.to_array(one)
            array = array if array.dtype == np.int64 else array * np.float32(factor)
            tensor = onnx.numpy_helper.from_array(array, one.name)
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [one.name], value=tensor))
            model.graph.initializer.remove(one)
        path = tmp_path / f"{number}.onnx"
        onnx.save(model, path)
        found.append(load_teacher(str(path)).info.fingerprint)
    assert found[0] != found[1]


def test_other_outputs_are_refused(saved: Student, tmp_path: Path) -> None:
    path = tmp_path / "agent.onnx"
    write_onnx(nn.Sequential(nn.Flatten(0)), path, saved.task)
    with pytest.raises(UserError, match=r"gives \(56448,\) for two states, not finite logits \(2, A\)"):
        load_teacher(str(path))


def test_papers_are_those_of_the_zip(files: dict[str, Path], saved: Student) -> None:
    (entry,) = onnx.load(files["int8"]).metadata_props
    task = saved.task
    assert entry.key == PAPERS
    assert json.loads(entry.value) == {"game": task.game, "preset": task.preset, "preset_hash": task.preset_hash}


def test_the_session_uses_half_of_the_threads(files: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        policy = OnnxPolicy(files["float32"], onnx.load(files["float32"]))
    finally:
        torch.set_num_threads(before)
    assert policy._session.get_session_options().intra_op_num_threads == 2
