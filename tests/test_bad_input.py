"""Bad input through the real command line: one clear sentence, a status that is not zero, no traceback."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli.command import main
from distill.dataset.reader import Dataset

ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "teachers" / "pretrained"


@dataclass
class Refused:
    """Runs commands that must be refused."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str | Path, says: str) -> None:
        """The one line on stderr must match ``says``; the same with ``--debug`` comes after a traceback."""
        arguments = [str(word) for word in words]
        status, lines = self.run(arguments)
        assert status not in (0, None)
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert re.search(says, lines[0]), lines[0]
        status, with_debug = self.run([*arguments, "--debug"])
        assert status not in (0, None)
        assert with_debug[0] == "Traceback (most recent call last):"
        assert with_debug[-1] == lines[0]

    def run(self, words: list[str]) -> tuple[int, list[str]]:
        self.capsys.readouterr()
        status = main(words)
        printed = self.capsys.readouterr()
        assert "Traceback" not in printed.out
        return status, printed.err.splitlines()


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """In an empty working directory, so that nothing is found or written by its default name."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Refused(capsys)


# -- teachers -------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    pass


def truncated(path: Path) -> None:
    path.write_bytes((PRETRAINED / "pong-ppo.zip").read_bytes()[:1_000_000])


def cut_at_the_end(path: Path) -> None:
    path.write_bytes((PRETRAINED / "pong-ppo.zip").read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("holiday.jpg", "a picture")


def other_parameters(path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"transformer.weight": torch.zeros(3)}, buffer)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", buffer.getvalue())


class Hostile:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("hacked",)


def hostile(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.pth", pickle.dumps({"action_net.weight": Hostile()}))
        archive.writestr("data", pickle.dumps(Hostile()))


def breakouts(path: Path) -> None:
    with zipfile.ZipFile(PRETRAINED / "breakout-imitated.zip") as archive, zipfile.ZipFile(path, "w") as copy:
        copy.writestr("policy.pth", archive.read("policy.pth"))  # its data would tell its game


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing, r"no teacher at .*agent\.zip; give a path"),
        (truncated, r"agent\.zip is not a readable zip file .*; download or copy it again"),
        (cut_at_the_end, r"agent\.zip (is not a readable zip file .*; download|has no policy\.pth: .*or cut short)"),
        (empty, r"agent\.zip is not a readable zip file .*; download or copy it again"),
        (foreign, r"agent\.zip has no policy\.pth: it is not from stable-baselines3"),
        (other_parameters, r"agent\.zip holds no policy this toolkit knows"),
        (hostile, r"agent\.zip: policy\.pth is damaged or holds more than plain weights, so it was not loaded"),
        (breakouts, r"agent\.zip chooses among 4 actions but pong has 6; it was trained on another game"),
    ],
)
@pytest.mark.parametrize("command", ["collect", "info"])
@pytest.mark.filterwarnings("error")
def test_bad_teacher(refused: Refused, tmp_path: Path, command: str, make: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "agent.zip"
    make(path)
    words = ["collect", "--teacher", path, "--env", "pong"] if command == "collect" else ["info", path, "--env", "pong"]
    refused(*words, says=says)
    assert not list(Path().iterdir()), "nothing was made, by us or by the zip"


def test_hostile_zip_is_really_hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        pickle.loads(archive.read("policy.pth"))
    assert (tmp_path / "hacked").is_dir()


def test_unknown_teacher(refused: Refused) -> None:
    refused("collect", "--teacher", "pongg", says=r"unknown teacher 'pongg' \(did you mean 'pong'\?\)")


def test_teacher_of_another_game(refused: Refused) -> None:
    refused("collect", "--env", "pong", "--teacher", "breakout", says="teacher breakout plays breakout, not pong")


def test_game_without_a_bundled_teacher(refused: Refused) -> None:
    refused("collect", "--env", "asterix", says=r"no bundled teacher of asterix; name one by --teacher.*make teacher G")


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--env pongg", r"unknown game 'pongg' \(did you mean 'pong'\?\)"),
        ("--preset sb4", r"unknown preset 'sb4' \(did you mean 'sb3'\?\); known: sb3, sb3-fast"),
        ("--collect.num_env 3", r"unknown setting 'collect.num_env' \(did you mean 'collect.num_envs'\?\)"),
        ("--collect.num_envs many", "--collect.num_envs must be int, got many"),
        ("--collect.num_envs 1.5", "--collect.num_envs must be int, got 1.5"),
        ("--collect.beta x", "--collect.beta must be float, got x"),
        ("--collect.codec int4", r"--collect.codec must be one of \['int8', 'fp16'\], got int4"),
        ("--student.convs [[1,2]]", r"--student.convs must be list\[.*\] or null, got \[\[1, 2\]\]"),
        ("--train.batch_size true", "--train.batch_size must be int, got True"),
        ("--collect 3", "collect"),
        ("--seed", "expected one argument"),
        ("stray", "unknown setting 'stray'"),
        ("--device cuda:x", "unknown --device 'cuda:x'; use auto, cpu, cuda or cuda:N"),
        ("--device mps", "'mps' is not supported; use auto, cpu, cuda"),
        ("--collect.out data/{game}", r"cannot fill in the folder name 'data/\{game\}'"),
        ("--collect.actor nobody", "no finished student at nobody; train one with `distill train`"),
        ("--config nowhere.yaml", "cannot read the settings in nowhere.yaml: No such file"),
    ],
)
def test_bad_settings(refused: Refused, words: str, says: str) -> None:
    refused("collect", *words.split(), says=says)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("collect:\n  num_env: 3\n", r"unknown setting 'collect.num_env' \(did you mean 'collect.num_envs'\?\)"),
        ("colect:\n  num_envs: 3\n", r"unknown setting 'colect.num_envs' \(did you mean 'collect.num_envs'\?\)"),
        ("collect:\n  num_envs: three\n", "--collect.num_envs must be int, got three"),
        ("collect: 3\n", "'collect' is a group of settings, not a value; got 3"),
        ("collect: [1\n", r"bad\.yaml is not YAML: expected ',' or '\]'.* in line 2; correct it"),
        ("- a\n- b\n", r"bad\.yaml does not hold settings"),
        ("\x00", r"bad\.yaml"),
    ],
)
def test_bad_yaml(refused: Refused, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    refused("collect", "--config", tmp_path / "bad.yaml", says=says)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
@pytest.mark.parametrize("command", ["collect", "train", "evaluate"])
def test_cuda_without_cuda(refused: Refused, command: str) -> None:
    refused(command, "--device", "cuda", says="--device cuda was asked for but PyTorch sees no CUDA device; use")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("verify", "the following arguments are required: dataset; see distill verify --help"),
        ("verify . --sample x", "argument --sample: invalid int value: 'x'"),
        ("verify . --sample 0", "--sample must be positive, got 0"),
        ("verify .", "no dataset at . .*make one with `distill collect`"),
        ("verify nowhere", "no dataset at nowhere"),
        ("info .", "is a folder but neither a dataset nor a finished student's run"),
        ("info nothing", "unknown teacher 'nothing'"),
        ("export nobody --out x.onnx", "no finished student at nobody"),
        ("export nobody", "the following arguments are required: --out"),
        ("train", "no dataset at data/pong .*make one with `distill collect`"),
    ],
)
def test_bad_words_for_tools(refused: Refused, words: str, says: str) -> None:
    refused(*words.split(), says=says)


# -- folders --------------------------------------------------------------------------------------


def test_folder_of_something_else(refused: Refused, tmp_path: Path, pong_data: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("mine")
    for words in (["collect", "--collect.out"], ["train", "--train.data", pong_data, "--train.out"]):
        refused(*words, tmp_path / "thesis", says="thesis exists")
    assert [path.read_text() for path in (tmp_path / "thesis").iterdir()] == ["mine"]


def test_folder_below_a_file(refused: Refused, tmp_path: Path, pong_data: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "data"
    refused("collect", "--collect.out", out, says=r"cannot write .*file/data: not a directory; choose another folder")
    refused("train", "--train.data", pong_data, "--train.out", out, says=r"cannot write .*file/data: not a directory")
    refused("collect", "--collect.out", tmp_path / "file", says="file exists and is not a dataset; choose another")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    refused("collect", "--collect.out", tmp_path / "closed" / "data", says="permission denied; choose another folder")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--preset sb3-fast", "was collected differently: preset is sb3, not sb3-fast; .*choose another --collect.out"),
        ("--env breakout", "was collected differently: game is pong, not breakout"),
        ("--collect.law fisher", "was collected differently: law is sphere, not fisher; choose another"),
        ("--collect.k 2", "was collected differently: k is 1, not 2; choose another"),
        ("--seed 3", "writer 'teacher' of .* acted differently: seed is 1, not 3; choose another --collect.writer"),
    ],
)
def test_dataset_of_other_settings(refused: Refused, pong_copy: Path, words: str, says: str) -> None:
    refused("collect", "--collect.out", pong_copy, "--collect.states=900", *words.split(), says=says)
    assert len(Dataset(pong_copy, verify=True)) == 600


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["steps.safetensors", "jacobian.npy"])
def test_dataset_with_a_flipped_bit(refused: Refused, pong_copy: Path, name: str) -> None:
    path = pong_copy / "shards" / "teacher-00003" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    says = rf"teacher-00003/{name} does not match its checksum; it is damaged, restore it from a copy"
    refused("verify", pong_copy, says=says)
    refused("train", "--train.data", pong_copy, says=says)


@pytest.mark.parametrize("number", [1, 4], ids=["middle", "last"])
def test_dataset_with_a_missing_shard(refused: Refused, pong_copy: Path, number: int) -> None:
    shutil.rmtree(pong_copy / "shards" / f"teacher-0000{number}")
    says = rf"has lost shard teacher-0000{number}: it was committed and is gone; restore it from a copy or collect"
    refused("verify", pong_copy, says=says)
    refused("info", pong_copy, says=says)
    refused("train", "--train.data", pong_copy, says=says)
    refused("collect", "--collect.out", pong_copy, says=says)


def test_dataset_with_a_missing_file(refused: Refused, pong_copy: Path) -> None:
    (pong_copy / "shards" / "teacher-00002" / "jacobian.npy").unlink()
    refused("verify", pong_copy, says=r"teacher-00002/jacobian\.npy is missing; restore it from a copy")


def test_dataset_with_a_damaged_manifest(refused: Refused, pong_copy: Path) -> None:
    (pong_copy / "dataset.json").write_text("{")
    for words in (["verify", pong_copy], ["info", pong_copy], ["collect", "--collect.out", pong_copy]):
        refused(*words, says=r"dataset\.json is not a readable dataset manifest")


# -- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("file_size", "unwritten"), [(100_000, "jacobian.npy"), (2_500, "steps.safetensors")])
def test_full_disk_while_collecting(
    start: Callable[..., Any], tmp_path: Path, file_size: int, unwritten: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on file sizes gives the same error at the same calls as a disk without room."""
    data = tmp_path / "data"

    def words(states: int) -> list[str]:
        settings = {"out": data, "states": states, "num_envs": 2, "shard_states": 6}
        return ["collect", "--device=cpu", *(f"--collect.{key}={value}" for key, value in settings.items())]

    assert main(words(12)) == 0
    before = {path: path.read_bytes() for path in data.glob("shards/*/*")}
    process = start(*words(24), file_size=file_size)
    assert process.wait() == 1
    (line,) = process.stderr.read_text().splitlines()
    where = rf"error: cannot write {data}/shards/teacher-00002/{unwritten}: file too large; "
    assert re.fullmatch(where + "what was committed is safe, so make room and run the command again", line)
    left = [path.name for path in (data / "shards" / "teacher-00002").iterdir()]
    assert unwritten not in left
    assert not [name for name in left if name.startswith(".")], "no temporary file takes up the room that is left"
    assert {path: path.read_bytes() for path in data.glob("shards/*/*") if "00002" not in str(path)} == before
    assert main(["verify", str(data)]) == 0
    assert main(words(24)) == 0
    assert len(Dataset(data, verify=True)) == 24
    assert {path: path.read_bytes() for path in before} == before


def test_full_disk_while_training(start: Callable[..., Any], tmp_path: Path, pong_data: Path) -> None:
    run = tmp_path / "run"
    settings = {"data": pong_data, "out": run, "steps": 4, "batch_size": 8, "val_states": 8, "val_every": 2}
    words = ["train", "--device=cpu", *(f"--train.{key}={value}" for key, value in settings.items())]
    words += ["--student.convs=[[4,8,4]]", "--student.hidden=[16]"]
    process = start(*words, file_size=100_000)
    assert process.wait() == 1
    (line,) = [line for line in process.stderr.read_text().splitlines() if line]
    assert line.startswith(f"error: cannot write {run}/checkpoints/best.pt: file too large; what was committed is safe")
    assert not list(run.glob("checkpoints/*"))
    assert main(words) == 0
    assert (run / "student" / "student.json").is_file()


# -- words of the small commands ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", ""], "dataset must be a name, got ''; see distill verify --help"),
        (["verify", ".", "--teacher="], "teacher must be a name, got ''"),
        (["verify", ".", "more"], "unrecognized arguments: more"),
        (["info", " "], "what must be a name, got ' '"),
        (["info", "a\0b"], r"what must be a name, got 'a\\x00b'"),
        (["export", "nobody", "--out="], "out must be a name, got ''"),
        (["export", "", "--out=x"], "student must be a name, got ''"),
    ],
)
def test_empty_words_for_tools(refused: Refused, words: list[str], says: str) -> None:
    refused(*words, says=says)


def test_what_is_written_here_is_not_written_into_a_store(refused: Refused, tmp_path: Path) -> None:
    """In the copy of a store it would be lost."""
    store = f"file://{tmp_path}/store"
    for words in (
        ["export", "nobody", f"--out={store}/x.onnx"],
        ["pull", f"{store}/a", f"{store}/b"],
        ["configs", "pong", f"{store}/pong.yaml"],
        ["imitate", "--student.name=nature", f"--imitate.teacher_zip={store}/x.zip"],
    ):
        refused(*words, says=rf"{store}/\S+ is in a store; name a file or folder here, and send it there by")
    refused("imitate", "--student.name=nature", "--imitate.teacher_zip=~nobody1/x.zip", says="home folder of nobody")
    assert not (tmp_path / "store").exists()
    assert not list(Path().iterdir())


def test_a_file_for_a_folder(refused: Refused, tmp_path: Path, pong_data: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (["verify"], ["info"], ["train", "--train.data"]):
        refused(*words, tmp_path / "file", says=r"file (is not a readable zip|\(it has no dataset)")
    refused("verify", pong_data / "dataset.json", says=r"no dataset at .*dataset\.json \(it has no dataset\.json\)")
    assert (tmp_path / "file").read_text() == "mine"


# -- damaged copies -------------------------------------------------------------------------------


def test_a_damaged_copy_for_hold_data_disk(refused: Refused, pong_copy: Path, tmp_path: Path) -> None:
    fit = ["train", f"--train.data={pong_copy}", "--train.hold_data=disk", "--train.steps=2", "--train.batch_size=4"]
    fit += ["--student.convs=[[4,8,4]]", "--student.hidden=[8]", "--train.val_states=8"]
    assert main([*fit, f"--train.out={tmp_path / 'a'}"]) == 0
    (copy,) = pong_copy.glob("cache/frames-*.npy")
    data = bytearray(copy.read_bytes())
    data[1000:2000] = bytes(255 - value for value in data[1000:2000])
    copy.write_bytes(data)
    refused("verify", pong_copy, says=r"cache/frames-\w+\.npy does not match its checksum; delete it: it is a copy")
    assert main([*fit, f"--train.out={tmp_path / 'b'}"]) == 1
    assert not (tmp_path / "b").exists()
    assert main([*fit, f"--train.out={tmp_path / 'b'}"]) == 0
    weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert main(["verify", str(pong_copy)]) == 0


def test_no_room_for_a_copy(start: Callable[..., Any], pong_copy: Path, tmp_path: Path) -> None:
    words = ["train", f"--train.data={pong_copy}", "--train.hold_data=disk", f"--train.out={tmp_path / 'run'}"]
    process = start(*words, "--device=cpu", file_size=1_000_000)
    assert process.wait() == 1
    (line,) = [line for line in process.stderr.read_text().splitlines() if line]
    assert re.fullmatch(rf"error: cannot write {pong_copy}/cache/frames-\w+\.npy: file too large; what was .*", line)
    assert not list(pong_copy.glob("cache/*"))
