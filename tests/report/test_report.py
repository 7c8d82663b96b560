from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.config.config import Config
from distill.config.stages import collect, report, train
from distill.dataset.reader import Dataset
from distill.dataset.split import split_by_episode
from distill.envs.presets import get_preset
from distill.errors import UserError
from distill.evaluate.tables import HEADER
from distill.figures.statistics import summarise
from distill.records.data import OwnGames
from distill.records.scores import AgentScores, read_scores
from distill.report import papers
from distill.report.papers import find_run
from distill.report.run import look
from distill.students.folder import load_student
from distill.students.onnx_file import write_onnx
from teachers.load import PRETRAINED, load_teacher
from tests.fixtures.records import edit_record

PNG = b"\x89PNG\r\n\x1a\n"
CURVES = {"kl", "action-error", "jacobian-cosine"}


@pytest.fixture(scope="module")
def trained(make_config: Callable[..., Config], pong_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``plain`` and ``sobolev``, both of two validations."""
    folder = tmp_path_factory.mktemp("runs")
    for name, weight in (("plain", 0.0), ("sobolev", 0.01)):
        train(
            make_config(
                student={"convs": [(4, 8, 4)], "hidden": [16]},
                objective={"jacobian_weight": weight},
                train={
                    "data": str(pong_data), "out": str(folder / name), "steps": 4, "val_every": 2, "val_states": 64,
                    "batch_size": 16, "val_fraction": 0.5,
                },
            )
        )  # fmt: skip
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def entry(kind: str, what: object, fingerprint: str, parameters: int, returns: list[float]) -> dict[str, Any]:
    summary = summarise(returns)
    return {
        "kind": kind, "what": str(what), "fingerprint": fingerprint, "parameters": parameters, "returns": returns,
        "lengths": [100] * len(returns), "mean": summary.mean, "median": summary.median, "iqm": summary.iqm,
        "ci95": list(summary.ci95), "human_normalized": 0.5, "share_of_teacher": (summary.mean + 20.7) / 40.7,
        "val_kl": None if kind == "teacher" else 0.1, "val_action_error": None, "val_jacobian_cosine": None,
    }  # fmt: skip


@pytest.fixture
def write_scores(tmp_path: Path) -> Callable[..., Path]:
    """``write_scores(name=run folder, ...)``: a scores.json of the teacher and these students."""

    def write(teacher: bool = True, /, **students: Path) -> Path:
        rng = np.random.default_rng(0)
        agents = {}
        if teacher:
            info = load_teacher("pong").info
            agents["teacher"] = entry("teacher", "teacher", info.fingerprint, 1_687_206, [19.0, 20.0, 21.0] * 4)
        for name, run in students.items():
            returns = rng.integers(-15, 10, 12).astype(float).tolist()
            agents[name] = entry("student", run, load_student(run).fingerprint, 5000, returns)
        record = {
            "game": "pong", "preset": "sb3", "protocol": "zoo", "games": 12, "seed": 1, "versions": {"torch": "9.9"},
            "command": "distill evaluate --evaluate.agents '[teacher]'", "created": "2025-06-01T10:00:00+00:00",
            "agents": agents,
        }  # fmt: skip
        path = tmp_path / "scores.json"
        path.write_text(json.dumps(record))
        return path

    return write


class Page(HTMLParser):
    """Pictures, links to anything outside, and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[bytes] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.text = " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            if key in ("src", "srcset", "href"):
                assert value is not None
                if value.startswith("data:image/png;base64,"):
                    self.pictures.append(base64.b64decode(value.partition(",")[2], validate=True))
                else:
                    self.outside.append(value)


@pytest.fixture
def render(make_config: Callable[..., Config], tmp_path: Path) -> Callable[[Path], Page]:
    """Reports into ``tmp_path / "report"``."""

    def run(scores: Path) -> Page:
        path = report(make_config(report={"scores": str(scores), "out": str(tmp_path / "report")}))
        assert path == tmp_path / "report" / "index.html"
        return Page(path.read_text())

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pictures(*stems: str) -> set[str]:
    return {f"{stem}{dark}.png" for stem in stems for dark in ("", "-dark")}


def test_the_page_holds_everything_itself(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    page = render(write_scores(plain=runs / "plain", sobolev=runs / "sobolev"))
    folder = tmp_path / "report"
    assert names(folder) == {"index.html"} | pictures("returns", "saliency", "influence", *CURVES)
    assert page.outside == []
    assert {"script", "link", "iframe"}.isdisjoint(page.tags)
    assert "@import" not in (folder / "index.html").read_text()
    beside = [path.read_bytes() for path in folder.glob("*.png")]
    assert sorted(page.pictures) == sorted(beside)
    assert all(png.startswith(PNG) and len(png) <= 300_000 for png in beside)
    for words in (
        "Pong: distillation report", "2025-06-01", "sampled actions, no sticky actions", "12 whole games per agent",
        "The best of 2 students", "With derivatives, sobolev scores", "1,687,206", "95 % interval",
        "distill evaluate --evaluate.agents '[teacher]'", (runs / "plain" / "command.txt").read_text().strip(),
        "torch 9.9", "conv 4 8×8/4, dense 16, relu", "jacobian_ weight 0.0 0.01",
    ):  # fmt: skip
        assert words in page.text, words
    assert "left out" not in page.text


@pytest.mark.parametrize("order", [("plain", "sobolev"), ("sobolev", "plain")])
def test_students_of_other_settings_stand_side_by_side(
    order: tuple[str, str], runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page]
) -> None:
    edit_student(runs / "plain", objective={"temperature": 1.0, "jacobian_weight": 0.0, "ent_coef": 0.125})
    text = render(write_scores(**{name: runs / name for name in order})).text
    row = ("0.125", "–") if order[0] == "plain" else ("–", "0.125")
    assert " ".join(("ent_ coef", *row)) in text
    row = ("–", "kl") if order[0] == "plain" else ("kl", "–")
    assert " ".join(("divergence", *row)) in text
    assert "learning rate 0.001 to 0.003" in text


def test_states_used_online_are_those_that_were_played(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page]
) -> None:
    """The setting is a budget, and a run may end before it is used up."""
    edit_student(runs / "plain", dataset=OwnGames(4196, 3).to_dict())
    (runs / "plain" / "config.yaml").write_text("imitate: {states: 2400000, batch_size: 64}\n")
    text = render(write_scores(plain=runs / "plain")).text
    assert "states used 4,196" in text
    assert "batch size 64" in text


def test_names_and_paths_are_only_text(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page]
) -> None:
    page = render(write_scores(**{"<script>$x_1$ & '\"": runs / "plain"}))
    assert "script" not in page.tags
    assert "<script>$x_1$ & '\"" in page.text


def test_teachers_alone(write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path) -> None:
    page = render(write_scores())
    assert names(tmp_path / "report") == {"index.html"} | pictures("returns")
    assert "no student was evaluated" in page.text
    assert "No student is at hand." in page.text


@pytest.mark.parametrize(("merged", "shown"), [({"val_merged_action_error": 0.125}, "12.5 %"), ({}, "–")])
def test_action_errors_stand_side_by_side(
    merged: dict[str, float], shown: str, runs: Path, write_scores: Callable[..., Path],
    render: Callable[[Path], Page],
) -> None:  # fmt: skip
    """Also with scores of an earlier version, which lack the merged one."""
    path = write_scores(False, plain=runs / "plain")
    record = json.loads(path.read_text())
    record["agents"]["plain"] |= {"val_action_error": 0.375, "val_jacobian_cosine": 0.5, **merged}
    path.write_text(json.dumps(record))
    text = render(path).text
    assert "val KL total variation action error merged error Jacobian cosine Jacobian error" in text
    assert f"0.1000 – 37.5 % {shown} 0.500 –" in text


def test_tables_are_whole_on_paper(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    """Two tables, as in the terminal; a printer cannot scroll."""
    page = render(write_scores(plain=runs / "plain"))
    assert page.tags.count("table") == 3, "scores, fidelity, settings"
    html = (tmp_path / "report" / "index.html").read_text()
    printed = html[html.index("@media print") : html.index("</style>")]
    assert ".scroll { overflow: visible; }" in printed
    scores, fidelity = re.findall(r"<thead>(.*?)</thead>", html)[:2]
    columns = [re.findall("<th>(.*?)</th>", head) for head in (scores, fidelity)]
    assert sorted({*columns[0], *columns[1]}) == sorted(HEADER), "every column is in one of them"
    assert max(map(len, columns)) <= 8


def test_a_logarithmic_axis_says_so() -> None:
    for _, label, options in papers.CURVES.values():
        assert ("log scale" in label) is bool(options.get("log"))


def test_older_scores_are_related_to_the_right_teacher(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page]
) -> None:
    """They do not say who taught a student; its papers do."""
    path = write_scores(plain=runs / "plain", sobolev=runs / "sobolev")
    edit_student(runs / "plain", teacher="0" * 64, teacher_name="mine.zip")
    edit_student(runs / "sobolev", teacher_name="pong")
    text = render(path).text
    assert "of teacher: plain learned from mine.zip (00000000), which did not play here." in text
    assert "first teacher" not in text
    agents = json.loads(path.read_text())["agents"]
    share = (agents["sobolev"]["mean"] + 20.7) / (agents["teacher"]["mean"] + 20.7)
    assert re.search(rf"sobolev −?[\d.]+ .*? {share:.0%}".replace("%", " %").replace("-", "−"), text)


def test_one_student_without_a_teacher(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    page = render(write_scores(False, plain=runs / "plain"))
    assert names(tmp_path / "report") == {"index.html"} | pictures("returns", "saliency", "influence", *CURVES)
    assert "no teacher was evaluated beside it" in page.text


def test_without_the_dataset_only_saliency_is_left_out(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    edit_student(runs / "plain", dataset={"folder": str(tmp_path / "gone"), "created": "", "states": 600})
    page = render(write_scores(plain=runs / "plain"))
    assert names(tmp_path / "report") == {"index.html"} | pictures("returns", *CURVES)
    assert "No student with its dataset is at hand." in page.text


def test_a_run_that_is_gone_is_said_to_be(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    scores = write_scores(plain=runs / "plain", sobolev=runs / "sobolev")
    shutil.rmtree(runs / "plain")
    page = render(scores)
    assert names(tmp_path / "report") == {"index.html"} | pictures("returns", "saliency", "influence", *CURVES)
    assert "plain has no curves: no finished student at" in page.text
    assert "With derivatives" not in page.text, "nothing is known of plain's objective any more"


def test_another_student_in_the_same_folder_is_not_shown(runs: Path, write_scores: Callable[..., Path]) -> None:
    record = read_scores(write_scores(plain=runs / "plain"))
    shutil.rmtree(runs / "plain")
    shutil.copytree(runs / "sobolev", runs / "plain")
    run = find_run(record.agents["plain"])
    assert run.student is None
    assert run.curves == {}
    assert "now holds another student" in run.missing


def test_curves_are_those_of_the_run(runs: Path, write_scores: Callable[..., Path]) -> None:
    record = read_scores(write_scores(plain=runs / "plain"))
    run = find_run(record.agents["plain"])
    assert run.student is not None
    assert set(run.curves) == {"val/kl", "val/action_error", "val/jacobian_cosine"}
    curve = run.curves["val/kl"]
    assert list(curve.steps) == [2, 4]
    assert curve.best_step == run.student.training.best_step
    best = curve.values[list(curve.steps).index(curve.best_step)]
    assert best == min(curve.values)
    assert best == pytest.approx(run.student.training.metrics["val_kl"], rel=1e-5)


def test_saliency_is_on_states_held_out_from_every_student(
    runs: Path, write_scores: Callable[..., Path], make_config: Callable[..., Config], pong_data: Path
) -> None:
    dataset = Dataset(pong_data, jacobian=False)

    def held(seed: int) -> set[int]:
        return set(split_by_episode(dataset, 0.5, seed)[1].tolist())

    others = range(2, 50)
    some = next(seed for seed in others if 0 < len(held(1) & held(seed)) < len(held(1)))
    data = json.loads((runs / "sobolev" / "student" / "student.json").read_text())["dataset"]
    data = {name: data[name] for name in ("folder", "created", "states")}  # its split is of another seed
    edit_student(runs / "sobolev", seed=some, dataset=data)
    found = {name: find_run(agent) for name, agent in students(write_scores, runs).items()}
    looks, notes = look(make_config(), "pong", found)
    assert looks is not None
    assert notes == []
    shared = dataset.stacks(np.array(sorted(held(1) & held(some))))[:, -1]
    assert all((shared == frame).all((1, 2)).any() for frame in looks.frames)

    none = next(seed for seed in others if not held(1) & held(seed))
    edit_student(runs / "sobolev", seed=none, dataset=data)
    found = {name: find_run(agent) for name, agent in students(write_scores, runs).items()}
    looks, notes = look(make_config(), "pong", found)
    assert looks is None
    assert "No state is held out from the training of all these students." in notes


def test_a_teacher_that_did_not_label_the_data_is_not_shown(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], other_pong_zip: Path
) -> None:
    edit_student(runs / "plain", teacher_name=str(other_pong_zip))
    page = render(write_scores(plain=runs / "plain"))
    assert "The teacher’s column is left out" in page.text
    assert "not the agent that labelled the dataset" in page.text


def test_the_teacher_asked_for_is_shown_where_it_labelled_the_data(
    runs: Path, write_scores: Callable[..., Path], make_config: Callable[..., Config], other_pong_zip: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The student's may have been moved since; one that labelled nothing here is passed over."""
    moved = Path(shutil.copy(PRETRAINED / "pong-ppo.zip", tmp_path / "moved.zip"))
    edit_student(runs / "plain", teacher_name=str(tmp_path / "gone.zip"))
    found = {name: find_run(agent) for name, agent in students(write_scores, runs).items() if name == "plain"}
    looks, notes = look(make_config(), "pong", found)
    assert looks is not None
    assert looks.teacher is None
    assert "gone.zip" in " ".join(notes)
    looks, notes = look(make_config(env="pong", teacher=str(moved)), "pong", found)
    assert looks is not None
    assert looks.teacher is not None
    assert notes == []
    edit_student(runs / "plain", teacher_name="pong")
    found["plain"] = find_run(students(write_scores, runs)["plain"])
    looks, notes = look(make_config(env="pong", teacher=str(other_pong_zip)), "pong", found)
    assert looks is not None
    assert looks.teacher is not None
    assert "other-pong.zip is not the agent that labelled the dataset" in " ".join(notes)


def test_students_of_another_task_are_left_out_of_the_pictures(
    runs: Path, write_scores: Callable[..., Path], make_config: Callable[..., Config], pong_data: Path
) -> None:
    edit_student(runs / "plain", preset="async-rl", preset_hash=get_preset("async-rl").hash)
    found = {name: find_run(agent) for name, agent in students(write_scores, runs).items()}
    config = make_config(report={"data": str(pong_data)})
    looks, notes = look(config, "pong", found)
    assert looks is not None
    assert list(looks.students) == ["sobolev"]
    assert re.search(
        r"plain is left out of the pictures of .*: it is of preset async-rl \(.*, not sb3", " ".join(notes)
    )
    looks, notes = look(config, "pong", {"plain": found["plain"]})
    assert looks is None
    assert len(notes) == 1


def test_missing_data(
    runs: Path, write_scores: Callable[..., Path], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    told = {"scores": str(write_scores(plain=runs / "plain")), "out": str(tmp_path / "report")}
    with pytest.raises(UserError, match=r"no dataset at .*none \(it has no dataset.json\)"):
        report(make_config(report={**told, "data": str(tmp_path / "none")}))
    assert not (tmp_path / "report").exists()


def test_students_of_an_onnx_file(
    make_config: Callable[..., Config], render: Callable[[Path], Page], write_scores: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    """It labels, but has no derivatives to be drawn."""
    pytest.importorskip("onnxruntime")
    pong = load_teacher("pong")
    path, data, out = tmp_path / "agent.onnx", tmp_path / "data", tmp_path / "student"
    write_onnx(pong.net, path, pong.info.task)
    small = {"out": str(data), "states": 200, "num_envs": 4, "shard_states": 100, "jacobian": "none"}
    collect(make_config(env="pong", teacher=str(path), collect=small))
    steps = {"data": str(data), "out": str(out), "steps": 4, "val_every": 2, "batch_size": 16, "val_fraction": 0.5}
    student = {"convs": [(4, 8, 4)], "hidden": [16]}
    train(make_config(env="pong", student=student, objective={"jacobian_weight": 0.0}, train=steps))
    page = render(write_scores(student=out))
    assert "The teacher’s column is left out" in page.text
    assert "agent.onnx has no derivatives" in page.text


def test_doubtful_students_are_named(
    runs: Path, write_scores: Callable[..., Path], make_config: Callable[..., Config], pong_data: Path
) -> None:
    created = Dataset(pong_data, jacobian=False).manifest.created
    edit_student(runs / "plain", dataset={"folder": str(pong_data), "created": created, "states": 599})
    edit_student(runs / "sobolev", teacher="0" * 64)
    found = {name: find_run(agent) for name, agent in students(write_scores, runs).items()}
    looks, notes = look(make_config(), "pong", found)
    assert looks is not None
    assert list(looks.students) == ["plain"]
    assert any("has changed since plain was trained on it" in note for note in notes)
    assert any("sobolev is left out: it learned from another teacher" in note for note in notes)


def students(write_scores: Callable[..., Path], runs: Path) -> dict[str, AgentScores]:
    return dict(read_scores(write_scores(False, plain=runs / "plain", sobolev=runs / "sobolev")).agents)


def edit_student(run: Path, **changes: Any) -> None:
    edit_record(run / "student" / "student.json", **changes)


def test_missing_scores(make_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; run `distill evaluate` first"):
        report(make_config(report={"scores": str(tmp_path / "none.json"), "out": str(tmp_path / "report")}))
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"agents": {"a": {}}}', '{"game": "pong", "agents": 3}', "\0"])
def test_damaged_scores(content: str, make_config: Callable[..., Config], tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        report(make_config(report={"scores": str(path), "out": str(tmp_path / "report")}))


def test_an_earlier_report_is_replaced(
    runs: Path, write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    render(write_scores(plain=runs / "plain"))
    (tmp_path / "report" / ".index.html.1.tmp").write_text("left by a killed process")
    page = render(write_scores())
    assert "no student was evaluated" in page.text
    assert names(tmp_path / "report") >= {"index.html"} | pictures("returns")
    assert names(tmp_path / "report").isdisjoint(pictures("saliency", *CURVES))


@pytest.mark.parametrize(
    "files", [("notes.txt",), ("index.html",), ("returns.png",), ("index.html", "photo.png")], ids="+".join
)
def test_a_folder_of_something_else_is_left_alone(
    files: tuple[str, ...], write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path
) -> None:
    (tmp_path / "report").mkdir()
    for name in files:
        (tmp_path / "report" / name).write_text("mine")
    with pytest.raises(UserError, match=r"which is not part of a report; choose another --report\.out"):
        render(write_scores())
    assert names(tmp_path / "report") == set(files)
    assert all((tmp_path / "report" / name).read_text() == "mine" for name in files)


def test_a_file_in_the_way(write_scores: Callable[..., Path], render: Callable[[Path], Page], tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        render(write_scores())
    assert (tmp_path / "report").read_text() == "mine"
