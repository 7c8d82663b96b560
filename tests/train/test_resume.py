"""A run that was cut off and resumed ends bit for bit where an uninterrupted one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.config.config import Config
from distill.config.stages import collect, train
from distill.dataset.reader import Dataset
from distill.dataset.repeats import repeats
from distill.errors import UserError
from distill.figures.fidelity import Fidelity
from distill.records.seal import sealed
from distill.system.signals import Terminated
from distill.train import lesson
from distill.train.setup import training_split

OBJECTIVES: dict[str, dict[str, Any]] = {
    "kl": {},
    "stored": {"jacobian_weight": 0.1, "jacobian_schedule": "cosine"},
    "online": {"jacobian_weight": 0.1, "jacobian_targets": "online", "k": 2},
    "noise": {"input_noise": 8.0},
    "share": {"jacobian_weight": 0.1, "jacobian_schedule": "linear", "jacobian_share": 0.3, "jacobian_until": 0.6},
}
QUARTER: dict[str, Any] = {"jacobian_weight": 0.1, "jacobian_share": 0.25}
"""What data with a quarter of the derivatives can give."""


class CutError(Exception):
    """Stands for a kill: nobody saves anything because of it."""


@pytest.fixture
def cut_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``cut_at(step, error)``: the gradient of that step (0, 1, ...) raises; ``cut_at(None)`` ends it."""
    make_step = lesson.make_step

    def cut(step: int | None, error: type[BaseException] = KeyboardInterrupt, already: int = 0) -> None:
        def cutting(*given: Any, **options: Any) -> Any:
            gradient, count = make_step(*given, **options), iter(range(already, 10**9))

            def compute(*arguments: Any) -> Any:
                if next(count) == step:
                    raise error
                return gradient(*arguments)

            return compute

        monkeypatch.setattr(lesson, "make_step", cutting)

    return cut


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def assert_equal(a: Any, b: Any, where: str = "") -> None:
    """Bit-equal nested checkpoints."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for number, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_equal(left, right, f"{where}[{number}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(a: Path, b: Path) -> None:
    for name in ("last", "best"):
        left, right = load(a / "checkpoints" / f"{name}.pt"), load(b / "checkpoints" / f"{name}.pt")
        for content in (left, right):
            del content["config"], content["progress"]["seconds"]
        assert_equal(left, right, name)
    file = "student/model.safetensors"
    assert (a / file).read_bytes() == (b / file).read_bytes()


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]


@pytest.mark.parametrize("objective", [*OBJECTIVES, "quarter"])
def test_resumed_run_is_bit_equal_to_an_uninterrupted_one(
    quick: Callable[..., Config], cut_at: Callable[..., None], objective: str, pong_quarter: Path
) -> None:
    settings = {"objective": OBJECTIVES.get(objective, QUARTER)}
    if objective == "quarter":  # two epochs of it
        settings["train"] = {"data": str(pong_quarter), "states": 96}
    whole = train(quick("whole", **settings))
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick("cut", **settings))
    assert load(Path(quick("cut").train.out) / "checkpoints" / "last.pt")["progress"]["step"] == 7
    cut_at(3)
    with pytest.raises(KeyboardInterrupt):
        train(quick("cut", **settings))
    cut_at(None)
    cut = train(quick("cut", **settings))
    assert_same_run(whole, cut)
    assert load(cut / "checkpoints" / "last.pt")["progress"]["step"] == 12


@pytest.mark.parametrize("step", [0, 2, 9, 11])
def test_killed_run_goes_on_from_its_last_checkpoint(
    quick: Callable[..., Config], cut_at: Callable[..., None], step: int
) -> None:
    settings = {"objective": OBJECTIVES["stored"]}
    whole = train(quick("whole", **settings))
    cut_at(step, CutError)
    with pytest.raises(CutError):
        train(quick("cut", **settings))
    saved = Path(quick("cut").train.out) / "checkpoints" / "last.pt"
    assert (load(saved)["progress"]["step"] if saved.exists() else 0) == step // 4 * 4
    cut_at(None)
    cut = train(quick("cut", **settings))
    assert_same_run(whole, cut)
    for tag in ("train/loss", "train/jacobian_loss", "val/kl", "train/learning_rate"):
        assert scalars(cut, tag) == scalars(whole, tag), f"{tag}: a point is missing, doubled or different"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where a shell started the tests in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_in_the_middle_of_a_step_finishes_that_step(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    number: signal.Signals, word: str,
) -> None:  # fmt: skip
    """A real signal after the weights have moved and before the step is counted."""
    whole = train(quick("whole"))
    step = torch.optim.AdamW.step
    calls = iter(range(100))

    def interrupted(self: Any, *args: Any) -> Any:
        result = step(self, *args)
        if next(calls) == 5:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(quick("cut"))
    assert isinstance(stopped.value, Terminated) is (word == "terminated")
    assert signal.getsignal(number) is before
    assert f"{word} at step 6; saved. The same command continues." in capsys.readouterr().out
    assert_same_run(whole, train(quick("cut")))


@pytest.mark.usefixtures("interruptible")
def test_second_ctrl_c_stops_at_once_and_saves_nothing(
    quick: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = train(quick("whole"))
    step = torch.optim.AdamW.step
    calls = iter(range(100))

    def interrupted(self: Any, *args: Any) -> Any:
        result = step(self, *args)
        if next(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(quick("cut"))
    assert load(tmp_path / "cut" / "checkpoints" / "last.pt")["progress"]["step"] == 4
    assert_same_run(whole, train(quick("cut")))


def test_finished_run_is_left_alone(quick: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    run = train(quick())
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert train(quick()) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert "already trained; nothing to do" in capsys.readouterr().out


def test_finished_run_of_other_settings_is_refused(quick: Callable[..., Config]) -> None:
    run = train(quick())
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(UserError, match=r"run is a different run: seed was 1, now 2; choose another --train\.out"):
        train(quick(seed=2))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_folder_that_is_no_run_is_refused(quick: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="exists and is not a run of this toolkit"):
        train(quick())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[1", "- a", "\x00"])
def test_damaged_config_of_a_run_is_named(quick: Callable[..., Config], tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"run/config\.yaml (is not readable|does not hold)"):
        train(quick())


def test_run_of_an_older_toolkit_goes_on(
    quick: Callable[..., Config], cut_at: Callable[..., None], tmp_path: Path
) -> None:
    """Its config.yaml does not name a setting that came later, which then has its default."""
    whole = train(quick("whole"))
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick("cut"))
    path = tmp_path / "cut" / "config.yaml"
    text = path.read_text()
    assert "  input_noise: 0.0\n" in text
    path.write_text(text.replace("  input_noise: 0.0\n", ""))
    cut_at(None)
    with pytest.raises(UserError, match=r"different run: objective\.input_noise was 0\.0, now 8\.0; choose another"):
        train(quick("cut", objective={"input_noise": 8.0}))
    assert_same_run(whole, train(quick("cut")))


@pytest.mark.parametrize("left", ["nothing", "temporary", "config"])
def test_run_killed_before_it_began_begins_again(
    quick: Callable[..., Config], cut_at: Callable[..., None], tmp_path: Path, left: str
) -> None:
    whole = train(quick("whole"))
    folder = tmp_path / "cut"
    folder.mkdir()
    if left == "temporary":
        (folder / ".config.yaml.123.tmp").write_text("env: po")
    if left == "config":
        shutil.rmtree(folder)
        cut_at(0, CutError)
        with pytest.raises(CutError):
            train(quick("cut"))
        cut_at(None)
        (folder / "versions.json").unlink()
    cut = train(quick("cut"))
    assert_same_run(whole, cut)
    assert (cut / "versions.json").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2}, "seed was 1, now 2"),
        ({"train": {"learning_rate": 0.1}}, r"train\.learning_rate was 0\.01, now 0\.1"),
        ({"train": {"steps": 24}}, r"train\.steps was 12, now 24"),
        ({"objective": {"jacobian_weight": 0.5}}, r"objective\.jacobian_weight was 0\.0, now 0\.5"),
        ({"student": {"hidden": [9]}}, r"student\.hidden was \[8\], now \[9\]"),
        ({"teacher": "pong-ppo"}, "teacher was pong, now pong-ppo"),
    ],
)
def test_resuming_with_other_settings_is_refused_and_the_difference_named(
    quick: Callable[..., Config], cut_at: Callable[..., None], changes: dict[str, Any], message: str
) -> None:
    cut_at(1)
    with pytest.raises(KeyboardInterrupt):
        train(quick())
    cut_at(None)
    with pytest.raises(UserError, match=f"is a different run: {message}; choose another --train.out"):
        train(quick(**changes))


def test_settings_that_do_not_matter_may_change(quick: Callable[..., Config], cut_at: Callable[..., None]) -> None:
    whole = train(quick("whole"))
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick("cut"))
    cut_at(None)
    free = {"log_every": 1, "checkpoint_every": 3, "verify": False}
    assert_same_run(whole, train(quick("cut", train=free)))


def test_dataset_that_has_grown_is_another_run(
    quick: Callable[..., Config], cut_at: Callable[..., None], pong_copy: Path, make_config: Callable[..., Config]
) -> None:
    from distill.config.stages import collect

    settings = {"train": {"data": str(pong_copy)}}
    cut_at(1)
    with pytest.raises(KeyboardInterrupt):
        train(quick(**settings))
    cut_at(None)
    collect(make_config(collect={"out": str(pong_copy), "states": 640, "num_envs": 4, "shard_states": 128}))
    with pytest.raises(UserError, match=r"had 600 states then and has 640 now; choose another"):
        train(quick(**settings))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a checkpoint", None])
def test_damaged_checkpoint_is_named(
    quick: Callable[..., Config], cut_at: Callable[..., None], tmp_path: Path, damage: bytes | None
) -> None:
    cut_at(1)
    with pytest.raises(KeyboardInterrupt):
        train(quick())
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(UserError, match=r"checkpoints/last\.pt is not a readable checkpoint"):
        train(quick())


@pytest.fixture
def val_kl(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """``val_kl([1.0, 2.0])``: what validations find, in turn."""

    def script(values: list[float]) -> None:
        left = iter(values)
        monkeypatch.setattr(lesson, "fidelity", lambda *arguments: Fidelity(kl=next(left), action_error=0.5))

    return script


def test_training_stops_when_validation_no_longer_improves(
    quick: Callable[..., Config], val_kl: Callable[[list[float]], None]
) -> None:
    val_kl([3.0, 2.0, 2.5, 2.0, 9.9])
    run = train(quick(train={"val_every": 1, "patience": 2}))
    last, best = (load(run / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    assert (last["progress"]["step"], last["progress"]["best_step"], best["progress"]["step"]) == (4, 2, 2)
    assert last["progress"]["best_kl"] == 2.0
    from safetensors.torch import load_file

    student = load_file(run / "student" / "model.safetensors")
    assert all(torch.equal(student[name], best["model"][name]) for name in student)
    assert any(not torch.equal(student[name], last["model"][name]) for name in student)


def test_run_killed_after_stopping_early_does_not_train_on(
    quick: Callable[..., Config], val_kl: Callable[[list[float]], None]
) -> None:
    val_kl([1.0, 2.0, 3.0, 9.9])
    run = train(quick(train={"val_every": 1, "patience": 2}))
    shutil.rmtree(run / "student")
    val_kl([1.0])
    train(quick(train={"val_every": 1, "patience": 2}))
    assert load(run / "checkpoints" / "last.pt")["progress"]["step"] == 3
    assert (run / "student" / "student.json").is_file()


@pytest.fixture
def grown(quick: Callable[..., Config], pong_copy: Path, make_config: Callable[..., Config]) -> Callable[[], None]:
    """Adds 100 states to the copy of the data."""

    def grow() -> None:
        collect(make_config(collect={"out": str(pong_copy), "states": 700, "num_envs": 4, "shard_states": 128}))

    return grow


@pytest.mark.parametrize("states", [None, 300])
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_does_not_go_on_with_other_data(
    quick: Callable[..., Config], cut_at: Callable[..., None], pong_copy: Path, grown: Callable[[], None],
    states: int | None, finished: bool,
) -> None:  # fmt: skip
    """Grown data gives another split, even where as many states are asked for."""
    settings = {"data": str(pong_copy), "states": states}
    if not finished:
        cut_at(7)
        with pytest.raises(KeyboardInterrupt):
            train(quick(train=settings))
        cut_at(None)
    else:
        train(quick(train=settings))
    grown()
    with pytest.raises(UserError, match=r"is of other data: .* had 600 states then and has 700 now; .*--train\.out"):
        train(quick(train=settings))


def test_a_run_does_not_go_on_with_data_of_the_same_size(
    quick: Callable[..., Config], cut_at: Callable[..., None], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    def fill(seed: int) -> None:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        collect(make_config(seed=seed, collect={"out": str(tmp_path / "data"), "states": 120, "num_envs": 4}))

    fill(1)
    settings = {"data": str(tmp_path / "data")}
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick(train=settings))
    cut_at(None)
    fill(2)
    with pytest.raises(UserError, match=r"is of other data: .*(was trained on another dataset|holds other data)"):
        train(quick(train=settings))
    fill(1)
    train(quick(train=settings))


def test_data_may_move(quick: Callable[..., Config], cut_at: Callable[..., None], pong_copy: Path) -> None:
    """What counts is what is in it."""
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick(train={"data": str(pong_copy)}))
    cut_at(None)
    relative = os.path.relpath(pong_copy)
    before = yaml.safe_load((Path(quick().train.out) / "config.yaml").read_text())
    before["train"]["data"] = relative
    (Path(quick().train.out) / "config.yaml").write_text(yaml.safe_dump(before))
    train(quick(train={"data": relative}))


def test_a_run_of_the_last_version_goes_on(
    quick: Callable[..., Config], cut_at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not tell its data, and says so."""
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick())
    cut_at(None)
    folder = Path(quick().train.out)
    (folder / "data.json").unlink()
    path = folder / "checkpoints" / "last.pt"
    content = load(path)
    del content["progress"]["data"], content["has_checksum"]
    torch.save(content, path)
    train(quick())
    assert "of an earlier version, which does not say of which data it is" in " ".join(capsys.readouterr().out.split())
    facts = json.loads((folder / "student" / "student.json").read_text())
    assert len(facts["dataset"]["digest"]) == 64


@pytest.mark.parametrize("side", ["train", "held"])
def test_a_split_that_has_changed_is_refused(
    quick: Callable[..., Config], cut_at: Callable[..., None], side: str
) -> None:
    cut_at(7)
    with pytest.raises(KeyboardInterrupt):
        train(quick())
    cut_at(None)
    path = Path(quick().train.out) / "data.json"
    told = json.loads(path.read_text())
    del told["checksum"]
    path.write_text(json.dumps(sealed({**told, side: "0" * 64})))
    with pytest.raises(UserError, match=r"(training|held-out) states of .* are others than then"):
        train(quick())


def test_repeats_of_training_states_are_told(
    quick: Callable[..., Config], pong_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, half = Dataset(pong_data), {"val_states": 1000, "val_fraction": 0.5}
    splits = {seed: training_split(quick(seed=seed, train=half), data) for seed in range(1, 9)}
    shares = {seed: repeats(data, held, data, learnt) for seed, (learnt, held) in splits.items()}
    seed = max(shares, key=lambda seed: shares[seed])
    assert 0 < shares[seed] < 0.2
    train(quick(seed=seed, train=half))
    said = " ".join(capsys.readouterr().out.split())
    assert f"{shares[seed]:.1%} of the held-out states scored occur, pixel by pixel, among the training states" in said
