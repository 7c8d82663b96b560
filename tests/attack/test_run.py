"""``distill attack`` on recorded states, and play under attack, through the real stages."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from distill.agents.actor import Policy
from distill.agents.agents import find_agents
from distill.agents.names import ATTACKING
from distill.attack.method import Attack, Scene
from distill.attack.policy import Assault, in_words
from distill.attack.ready import find_source
from distill.attack.rows import RECORD
from distill.attack.settings import ThreatConfig
from distill.cli.command import main
from distill.config.config import Config
from distill.config.stages import attack, collect, evaluate, train
from distill.dataset.reader import Dataset
from distill.envs.settings import CommonConfig
from distill.errors import UserError
from distill.students.onnx_file import write_onnx
from distill.system.alone import alone
from distill.system.settings import part
from teachers.load import load_teacher
from tests.conftest import PRETRAINED

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


@pytest.fixture
def small(make_config: MakeConfig, pong_data: Path, tmp_path: Path) -> Callable[..., Config]:
    """``small(attack={...}, threat={...})``: few states of real ones."""

    def make(**changes: Any) -> Config:
        settings = {"data": str(pong_data), "out": str(tmp_path / "out"), "states": 24, "eps": [1.0, 4.0]}
        return make_config(**{**changes, "attack": settings | changes.pop("attack", {})})

    return make


def test_rows_table_and_curves(
    small: Callable[..., Config], pong_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = attack(small(attack={"methods": ["noise", "fgsm", "swarm-random"]}, threat={"iterations": 1}))
    keys = [(row["method"], row["eps"]) for row in rows]
    assert keys == [(None, None), ("noise", 1), ("noise", 4), ("fgsm", 1), ("fgsm", 4), ("swarm-random", None)]
    clean, fgsm = rows[0], rows[4]
    assert (clean["flips"], clean["changed"], clean["action_error"]) == (0, 0, 0)
    assert fgsm["flips"] > 0.5
    written = json.loads((tmp_path / "out" / "attack.json").read_text())
    assert [row["flips"] for row in written["rows"]] == [row["flips"] for row in rows]
    text = capsys.readouterr().out
    assert "pong, 24 states, linf" in text
    shown = text.replace(str(pong_data), "data").replace(str(tmp_path), ".")  # paths are as long as they are
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    events = EventAccumulator(str(tmp_path / "out" / "teacher")).Reload()
    assert [(p.step, p.value) for p in events.Scalars("attack/fgsm/flips")] == [
        (100, pytest.approx(rows[3]["flips"])), (400, pytest.approx(rows[4]["flips"]))
    ]  # fmt: skip


def test_curves_over_small_sizes_have_every_point_once(small: Callable[..., Config], tmp_path: Path) -> None:
    """Whatever was asked for before; events of games in the same folder stay."""
    with SummaryWriter(str(tmp_path / "out" / "teacher")) as writer:
        writer.add_scalar("whole_games/mean_reward", 7.0, 0)
    for methods, sizes in ((["noise"], [0.5, 1.5]), (["fgsm"], [2.0]), (["noise"], [2.0])):
        attack(small(attack={"methods": methods, "eps": sizes}, threat={"norm": "l2"}))
    events = EventAccumulator(str(tmp_path / "out" / "teacher"), size_guidance={"scalars": 0}).Reload()
    assert [point.step for point in events.Scalars("attack/noise/kl")] == [50, 150, 200]
    assert [point.step for point in events.Scalars("attack/fgsm/kl")] == [200]
    assert [point.value for point in events.Scalars("whole_games/mean_reward")] == [7.0]
    assert len(list((tmp_path / "out" / "teacher").iterdir())) == 2


def test_the_same_command_goes_on_and_another_is_refused(
    small: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(small(attack={"methods": ["noise"]}))
    capsys.readouterr()
    rows = attack(small(attack={"methods": ["noise", "fgsm"]}))
    assert len(rows) == 5
    measured = [line for line in capsys.readouterr().out.splitlines() if line.startswith("teacher, ")]
    assert [line.partition(":")[0] for line in measured] == ["teacher, fgsm at eps 1", "teacher, fgsm at eps 4"]
    fresh = attack(small(attack={"methods": ["noise", "fgsm"], "out": str(tmp_path / "fresh")}))
    assert [row["kl"] for row in fresh] == [row["kl"] for row in rows]  # whatever was measured before
    for changes, what in (
        ({"attack": {"states": 8}}, "is of states 24, not 8"),
        ({"threat": {"draws": 3}}, "is of threat "),
        ({"seed": 2}, "is of seed 1, not 2"),
    ):
        with pytest.raises(UserError, match=f"attack.json {what}.*; choose another --attack.out"):
            attack(small(**changes))


def test_a_student_is_attacked_on_games_that_it_does_not_know(
    small: Callable[..., Config], quick: Callable[..., Config], pong_data: Path, tmp_path: Path
) -> None:
    student = train(quick())
    settings: dict[str, Any] = {"agents": ["teacher", f"small={student}"], "methods": ["fgsm"], "states": 10_000}
    rows = attack(small(attack=settings))
    assert [row["agent"] for row in rows] == ["teacher"] * 3 + ["small"] * 3
    states = json.loads((tmp_path / "out" / "attack.json").read_text())["states"]
    assert 0 < states < len(Dataset(pong_data)) / 2
    # The teacher's slopes do less harm to another network than its own.
    transferred = attack(small(attack={**settings, "out": str(tmp_path / "transfer")}, threat={"source": "teacher"}))
    assert transferred[0]["kl"] == rows[0]["kl"]
    assert transferred[2]["kl"] == rows[2]["kl"]
    assert transferred[5]["kl"] != rows[5]["kl"]


def test_training_games_under_another_name_are_told(
    small: Callable[..., Config], quick: Callable[..., Config], make_config: MakeConfig, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Games of the same seed, recorded into another folder."""
    student = train(quick())
    for seed, same in ((1, True), (2, False)):
        data = str(tmp_path / f"data {seed}")
        collect(make_config(seed=seed, collect={"out": data, "states": 200, "num_envs": 4, "jacobian": "none"}))
        settings = {"agents": [f"small={student}"], "methods": ["noise"], "data": data}
        attack(small(attack={**settings, "out": str(tmp_path / f"attack {seed}")}))
        (told,) = re.findall(r"small: (\S+)% of the states scored occur", capsys.readouterr().out) or ["0"]
        assert (float(told) > 50) == same


def test_rows_of_other_states_are_not_taken_up(
    small: Callable[..., Config], quick: Callable[..., Config], tmp_path: Path
) -> None:
    """As many states, but others, since a student was trained on the first ones."""
    attack(small(attack={"methods": ["noise"]}))
    student = train(quick())
    with pytest.raises(UserError, match=r"is of other states: .*; choose another --attack.out"):
        attack(small(attack={"methods": ["noise"], "agents": ["teacher", f"small={student}"]}))


def test_a_zip_of_a_student_has_rows_of_its_own_where_their_temperatures_differ(
    small: Callable[..., Config], quick: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(quick(objective={"temperature": 0.5, "jacobian_weight": 0.0}))
    shutil.copy(run / "student" / "student.zip", tmp_path / "alone.zip")
    agents = [f"small={run}", f"zip={tmp_path / 'alone.zip'}"]
    config = small(attack={"agents": agents, "methods": ["noise"], "eps": [1.0]})
    folder, zipped = (rows for rows in zip(*[iter(attack(config))] * 2, strict=True))
    assert [row["temperature"] for row in (*folder, *zipped)] == [0.5, 0.5, 1.0, 1.0]
    assert folder[0]["fingerprint"] == zipped[0]["fingerprint"]
    assert folder[0]["kl"] != zipped[0]["kl"]
    path = tmp_path / "out" / "attack.json"
    content = RECORD.read(path)
    told = [{name: value for name, value in row.items() if name != "temperature"} for row in content["rows"][2:]]
    RECORD.write(path, {**content, "rows": told})  # as earlier versions wrote it
    capsys.readouterr()
    assert [row["kl"] for row in attack(config)] == [row["kl"] for row in (*folder, *zipped)]
    assert re.findall(r"^(\w+), .*: flips", capsys.readouterr().out, re.MULTILINE) == ["small", "small"]


def test_another_source_of_the_same_name_is_another_attack(
    make_config: MakeConfig, quick: Callable[..., Config], small: Callable[..., Config], tmp_path: Path
) -> None:
    one, two = (train(quick(seed=seed, out=str(tmp_path / f"run{seed}"))) for seed in (1, 2))
    link = tmp_path / "source"
    play = {"games": 2, "num_envs": 2, "out": str(tmp_path / "scores"), "attack": "noise"}
    link.symlink_to(one)
    evaluate(make_config(evaluate=play, threat={"source": str(link)}))
    attack(small(attack={"methods": ["noise"]}, threat={"source": str(link)}))
    link.unlink()
    link.symlink_to(two)
    with pytest.raises(UserError, match="is of games under another attack"):
        evaluate(make_config(evaluate=play, threat={"source": str(link)}))
    with pytest.raises(UserError, match=r"attack\.json is of threat "):
        attack(small(attack={"methods": ["noise"]}, threat={"source": str(link)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": {"methods": ["fgms"]}}, "unknown attack 'fgms'.*fgsm"),
        ({"attack": {"eps": [1.0, 0.5]}}, "--attack.eps must be a whole number of at least 1.*, got 0.5"),
        ({"attack": {"eps": [2.9]}}, "--attack.eps must be a whole number of at least 1.*, got 2.9"),
        ({"attack": {"eps": [300.0]}}, "--attack.eps must be above 0 and at most 255"),
        ({"attack": {"agents": []}}, "--attack.agents must be at least one"),
        ({"threat": {"patch": 2}}, r"--threat.patch must be one of \[1, 3, 5, 7\]"),
        ({"threat": {"target": 6}}, "--threat.target=6: pong has actions 0 to 5"),
        ({"env": "breakout"}, "is of pong, not breakout"),
    ],
)
def test_what_cannot_work_is_refused(small: Callable[..., Config], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack(small(**changes))


def test_parts_of_a_gray_level_are_of_l2(make_config: MakeConfig) -> None:
    """Under linf an eps of 2.9 would be played as 2."""
    parts: dict[str, Any] = {"attack": "pgd", "attack_eps": 2.9}
    with pytest.raises(UserError, match=r"--evaluate.attack_eps must be a whole number of at least 1.*, got 2.9"):
        make_config(evaluate=parts)
    for fine in ({"evaluate": parts, "threat": {"norm": "l2"}}, {"attack": {"eps": [0.5]}, "threat": {"norm": "l2"}}):
        make_config(**fine)


def test_play_under_attack(make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"games": 2, "num_envs": 2, "out": str(tmp_path / "scores")}
    attacked = evaluate(make_config(evaluate={**settings, "attack": "fgsm", "attack_eps": 1.0}))
    assert attacked["agents"]["teacher"]["mean"] < -15  # its clean score is 19.6
    assert (attacked["attack"]["method"], attacked["attack"]["eps"], attacked["attack"]["share"]) == ("fgsm", 1, 1)
    assert "under attack: fgsm, eps 1 of 255 (linf), every step" in capsys.readouterr().out
    for other in ({}, {"attack": "noise"}, {"attack": "fgsm"}):
        with pytest.raises(UserError, match="is of games under another attack, or under none; choose another"):
            evaluate(make_config(evaluate={**settings, **other}))
    words = ["evaluate", f"--evaluate.out={tmp_path / 'scores'}", "--evaluate.games=2", "--evaluate.num_envs=2"]
    assert main([*words, "--evaluate.attack=fgsm", "--evaluate.attack_eps=1", "--device=cpu"]) == 0
    assert "already complete" in capsys.readouterr().out


def test_the_source_teacher_is_who_taught_the_students(
    make_config: MakeConfig, quick: Callable[..., Config], other_pong_zip: Path, tmp_path: Path
) -> None:
    data = {"out": str(tmp_path / "data"), "states": 200, "num_envs": 2, "shard_states": 100}
    collect(make_config(env="pong", teacher=str(other_pong_zip), collect=data))
    student = train(quick(train={"data": str(tmp_path / "data")}))
    config, threat = make_config(env="pong", teacher=""), ThreatConfig(source="teacher")
    common = dataclasses.replace(part(config, CommonConfig), teacher="")
    agents = find_agents(common, [f"small={student}"])
    source = find_source(common, threat, agents)
    assert source is not None
    assert source.fingerprint == Dataset(tmp_path / "data").identity.teacher
    other = dataclasses.replace(agents[0], preset="dqn")
    with pytest.raises(UserError, match=r"--threat\.source=teacher sees preset sb3 and small sees dqn; name a source"):
        find_source(common, threat, [agents[0], other])


WIDTHS: list[int] = []


def watch(scene: Scene) -> Tensor:
    """Write down how many states are attacked together."""
    WIDTHS.append(len(scene.x))
    return scene.x


def flat(scene: Scene) -> Tensor:
    """What no attack may give."""
    return scene.x.flatten(1)


def in_place(scene: Scene) -> Tensor:
    """Writes on what it was given."""
    return scene.x.fill_(0)


def half(scene: Scene) -> Tensor:
    """Fewer stacks than it was given."""
    return scene.x[:1]


def failing(scene: Scene) -> Tensor:
    """Cannot have seen more than one state."""
    return scene.x.view(1, 4, 84, 84)


WATCH, FLAT = Attack("watch", "changes nothing", watch), Attack("flat", "gives no stacks", flat)
IN_PLACE = Attack("in-place", "all pixels black", in_place, sized=False)
HALF, FAILING = Attack("half", "loses stacks", half), Attack("failing", "fails", failing)
NOTHING = Attack("nothing", "gives nothing", lambda scene: None)  # type: ignore[arg-type,return-value]


def test_a_method_that_writes_in_place_leaves_the_states_alone(small: Callable[..., Config], tmp_path: Path) -> None:
    methods = [f"{__name__}:IN_PLACE", "noise"]
    after = attack(small(attack={"methods": methods}))
    alone = attack(small(attack={"methods": methods[1:], "out": str(tmp_path / "alone")}))
    assert after[1]["changed"] > 50
    assert [row["kl"] for row in after if row["method"] != methods[0]] == [row["kl"] for row in alone]


def test_a_video_shows_a_game_under_attack(make_config: MakeConfig, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    WIDTHS.clear()
    settings = {"games": 1, "num_envs": 1, "out": str(tmp_path), "capture_video": True}
    scores = evaluate(make_config(evaluate={**settings, "attack": f"{__name__}:WATCH"}))
    (length,) = scores["agents"]["teacher"]["lengths"]
    assert len(WIDTHS) > 1.9 * length  # the same game twice: the one that counts, and the video's


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": ["teacher", "random"], "attack": "fgsm"}, r"random under fgsm: .* name with --threat\.source"),
        ({"attack": "fgsm", "target": 6}, "--threat.target=6: pong has actions 0 to 5"),
        ({"attack": f"{__name__}:FLAT"}, r"gives torch.uint8 \(2, 28224\), not torch.uint8 \(2, 4, 84, 84\)"),
        ({"attack": f"{__name__}:HALF"}, r"gives torch.uint8 \(1, 4, 84, 84\), not torch.uint8 \(2, 4, 84, 84\)"),
        ({"attack": f"{__name__}:NOTHING"}, "attack nothing gives a NoneType, not a tensor; mend its function"),
        (
            {"attack": f"{__name__}:FAILING"},
            r"teacher under \S+:FAILING: the attack fails \(RuntimeError: shape .*\); mend its function",
        ),
    ],
)
def test_play_that_cannot_work_is_refused_before_any_game(
    changes: dict[str, Any], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    target = changes.pop("target", None)
    settings = {"games": 2, "num_envs": 2, "out": str(tmp_path / "scores"), **changes}
    with pytest.raises(UserError, match=message):
        evaluate(make_config(evaluate=settings, threat={"target": target}))
    assert not (tmp_path / "scores").exists()


def test_an_onnx_file_is_told_of_a_source(make_config: MakeConfig, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "agent.onnx"
    teacher = load_teacher("pong")
    write_onnx(teacher.net, path, teacher.info.task)
    settings = {"games": 2, "num_envs": 2, "out": str(tmp_path / "scores"), "agents": [str(path)], "attack": "fgsm"}
    with pytest.raises(UserError, match=r"agent under fgsm: .* name with --threat\.source"):
        evaluate(make_config(evaluate=settings))


def test_a_share_of_the_steps() -> None:
    """What is left alone is seen as it is."""
    net = load_teacher("pong").net
    obs = torch.randint(0, 256, (400, 4, 84, 84), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    clean = Policy(net, CPU).logits(obs.numpy())

    def hit(share: float) -> float:
        assault = Assault("noise", 8.0, share, ThreatConfig(), 1)
        seen = obs.numpy().copy()
        logits = assault.policy(net, CPU, 0).logits(seen)
        assert (seen == obs.numpy()).all()
        return float((logits - clean).abs().amax(1).gt(1e-3).float().mean())

    assert hit(0) == 0
    assert hit(1) == 1
    assert 0.2 < hit(0.3) < 0.4
    elsewhere = {**Assault("noise", 8.0, 1, ThreatConfig(), 1).to_dict(), "method": "not_here.attacks:MINE"}
    assert in_words(elsewhere) == "under attack: not_here.attacks:MINE, eps 8 of 255 (linf), every step"
    assert in_words(Assault("swarm", 2, 0.25, ThreatConfig(source="a"), 1).to_dict()) == (
        "under attack: swarm, 25% of the steps, slopes of a"
    )


def too_large(path: Path) -> Path:
    """The bundled Pong teacher with weights whose logits no float can hold."""
    with zipfile.ZipFile(PRETRAINED / "pong-ppo.zip") as archive, zipfile.ZipFile(path, "w") as copy:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        weights["action_net.weight"].mul_(1e38)
        buffer = io.BytesIO()
        torch.save(weights, buffer)
        copy.writestr("policy.pth", buffer.getvalue())
    return path


def test_an_agent_without_finite_logits_is_refused(
    small: Callable[..., Config], make_config: MakeConfig, tmp_path: Path
) -> None:
    agent = str(too_large(tmp_path / "huge-pong.zip"))
    with pytest.raises(UserError, match="agent huge-pong gives NaN or infinite logits; its weights are damaged or far"):
        attack(small(attack={"agents": [agent], "methods": ["noise"]}))
    settings = {"agents": [agent], "games": 1, "num_envs": 1, "out": str(tmp_path / "scores")}
    with pytest.raises(UserError, match="agent huge-pong: NaN or infinite logits, of which no action follows"):
        evaluate(make_config(evaluate=settings))
    assert not (tmp_path / "scores" / "scores.json").exists()


def test_a_folder_that_another_process_writes_is_refused(small: Callable[..., Config]) -> None:
    """Each would replace the file by its own rows, without the other's."""
    config = small(attack={"methods": ["noise"]})
    with (
        alone(Path(config.attack.out), "--attack.out", ATTACKING),
        pytest.raises(UserError, match=r"another process is at work in .*; wait for it or choose another --attack.out"),
    ):
        attack(config)


def test_a_name_that_is_a_file_is_refused_before_any_attack(small: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be called 'attack\.json': a file of the results is called so"):
        attack(small(attack={"agents": ["attack.json=pong"]}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pong").touch()
    with pytest.raises(UserError, match="out/pong is a file, where the events of agent pong go; rename one of them"):
        attack(small(attack={"agents": ["pong=pong"]}))
    assert not (tmp_path / "out" / "attack.json").exists()


def test_more_memory_than_there_is_is_one_sentence(
    pong_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--attack.data={pong_data}", f"--attack.out={tmp_path / 'out'}", "--attack.states=2", "--device=cpu"]
    assert main(["attack", *words, "--attack.methods=[swarm]", "--threat.particles=1000000000000"]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: not enough memory (")
    assert line.endswith("; lower what was asked for: games side by side, states, batches or networks")
