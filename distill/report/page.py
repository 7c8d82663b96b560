"""The report's HTML: one file, nothing loaded from anywhere, light and dark, fit for a phone."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from torch import nn

from distill.attack.policy import in_words
from distill.envs.games import REFERENCE_SCORES
from distill.envs.protocols import get_protocol
from distill.evaluate.tables import SCORE_COLUMNS, fidelity_columns, header, table
from distill.figures.shares import notes as share_notes
from distill.figures.shares import on_own_games_alone, own_games_notes, repeat_notes
from distill.networks.nets import count_parameters, described
from distill.records.data import OwnGames
from distill.records.scores import AgentScores, Scores
from distill.records.student import Training
from distill.report.headline import comparable, headline
from distill.report.plots import LIGHT, colours
from distill.report.style import GENERATOR, PAGE, STYLE

if TYPE_CHECKING:
    from distill.report.papers import Run

Agents = Mapping[str, AgentScores]


def render(
    record: Scores, runs: Mapping[str, Run], pictures: Mapping[str, bytes], notes: Sequence[str], date: str
) -> str:
    """The whole page.

    Args:
        record: the scores.
        runs: what is known of every student.
        pictures: PNG by file name; a ``-dark`` version beside each.
        notes: what is left out of the saliency section, or doubtful in it.
        date: of the evaluation.
    """
    papers = {name: run.student.training for name, run in runs.items() if run.student is not None}
    sentences = headline(record, papers)
    sections = [_scores(record, papers, pictures), _curves(runs, pictures), _saliency(pictures, notes, runs)]
    sections += [_settings(record.agents, runs), _commands(record, runs), _versions(record)]
    return PAGE.substitute(
        generator=GENERATOR,
        style=STYLE,
        title=escape(f"{record.game.replace('_', ' ').title()}: distillation report"),
        facts=escape(_facts(record, date)),
        lead=escape(sentences[0]),
        more="\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences[1:]),
        sections="\n".join(sections),
    )


def _facts(record: Scores, date: str) -> str:
    games = f"{record.games} whole game{'s' if record.games > 1 else ''} per agent"
    protocol = get_protocol(record.protocol)
    described = f"protocol {protocol.name}: {protocol.meaning}"
    attack = [in_words(record.attack)] if record.attack else []
    return " · ".join((date, games, described, *attack, f"preset {record.preset}", f"seed {record.seed}"))


def _scores(record: Scores, papers: Mapping[str, Training], pictures: Mapping[str, bytes]) -> str:
    agents = record.agents
    rows = [[_agent(agents, row[0]), *(_typeset(cell) for cell in row[1:])] for row in table(record)]
    titles = header(record)
    scores = (
        "Scores are raw points of whole games; the interval is a 95 % bootstrap of the mean over games; IQM is the "
        "mean of the middle half. human-norm.: (score − random) / (human − random); of teacher: share of the mean "
        "above random of the very teacher that taught it."
    )
    where = "states that each played itself" if on_own_games_alone(agents) else "games held out from training"
    fidelity = (
        f"Against the teacher’s labels, on {where}: val KL in nats; total variation, half the sum "
        "of |π_T − π_S|; action error, and merged error, where actions that do the same count as one; cosine of "
        "the two Jᵀv, and relative error of the student’s (1 is as bad as no derivative)."
    )
    fidelity += "".join(
        f" {figure['title']}: {figure['meaning']}{', ' * bool(figure['unit'])}{figure['unit']}."
        for figure in record.figures.values()
    )
    if not comparable(list(papers.values())):
        fidelity += (
            " These students differ in held-out games or in temperature, and each one’s figures, curves too, are on "
            "its own: do not compare their val KL."
        )
    caption = "Each dot is one game; the bar is the 95 % interval of the mean, the tick the mean."
    if record.game in REFERENCE_SCORES:
        caption += " Dashed: published scores of random play and of a human (Wang et al. 2016, 30 no-ops)."
    measured = [fidelity, *own_games_notes(agents), *repeat_notes(agents)]
    figure = _figure(pictures, "returns", "Return of every game, by agent", caption)
    return (
        f"<h2>Scores</h2>{_table(titles, rows, SCORE_COLUMNS)}{_notes([scores, *share_notes(agents)])}{figure}"
        f"<h2>Fidelity</h2>{_table(titles, rows, fidelity_columns(record))}{_notes(measured)}"
    )


def _curves(runs: Mapping[str, Run], pictures: Mapping[str, bytes]) -> str:
    titles = {
        "kl": "Held-out KL divergence against training step",
        "action-error": "Held-out action error against training step",
        "jacobian-cosine": "Held-out Jacobian cosine against training step",
    }
    drawn = "".join(_figure(pictures, name, title, "") for name, title in titles.items())
    bare = {name: run.missing or "its run logged none" for name, run in runs.items() if not run.curves}
    missing = [f"{name} has no curves: {reason}." for name, reason in bare.items()]
    if not runs:
        missing = ["No student was evaluated."]
    caption = "On held-out games. The ringed point is the checkpoint that became the student (lowest val/kl)."
    grid = f"<div class='grid'>{drawn}</div><p class='note'>{caption}</p>" if drawn else ""
    return f"<h2>Learning curves</h2>{grid}{_missing(missing)}"


def _saliency(pictures: Mapping[str, bytes], notes: Sequence[str], runs: Mapping[str, Run]) -> str:
    notes = [*notes, *(f"{name} is left out: {run.missing}." for name, run in runs.items() if run.student is None)]
    caption = (
        "|Jᵀv| over the newest frame, v = e_a − 1/A, the same for all: how much each pixel moves the centred logit of "
        "the teacher’s best action a, named with its probability under each frame. Smoothed (σ = 1.5 pixels), each "
        "picture scaled to its own 99.5th percentile. Cosine: of a student’s Jᵀv with the teacher’s, over all four "
        "frames, unsmoothed. Each row is taken from another stretch of the held-out games."
    )
    figure = _figure(pictures, "saliency", "Saliency of teacher and students on held-out states", caption, wide=True)
    caption = (
        "What each pixel of the newest frame can do to the agent’s own most likely action: the influence "
        "measure of Shu and Zhu (2019) as a share of the most it can be, 1 / p − 1. It does not depend on the contrast "
        "of the pixels or on how steep the policy is there."
    )
    influence = _figure(pictures, "influence", "Influence of patches on held-out states", caption, wide=True)
    return f"<h2>Where they look</h2>{figure}{influence}{_missing(notes)}"


def _settings(agents: Agents, runs: Mapping[str, Run]) -> str:
    columns = {name: _student_settings(run) for name, run in runs.items() if run.student is not None}
    if not columns:
        return ""
    rows = []
    # Students of reward, and of earlier versions, have settings of their own.
    for setting in dict.fromkeys(name for column in columns.values() for name in column):
        values = [column.get(setting, "–") for column in columns.values()]
        if set(values) == {"–"}:
            continue
        kind = " class='same'" if len(columns) > 1 and len(set(values)) == 1 else ""
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        rows.append(f"<tr{kind}><th>{escape(setting).replace('_', '_<wbr>')}</th>{cells}</tr>")
    head = "".join(f"<th>{_agent(agents, name)}</th>" for name in columns)
    note = "<p class='note'>Gray: the same for all.</p>" if len(columns) > 1 else ""
    return (
        f"<h2>Students</h2><div class='scroll'><table class='words'><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _student_settings(run: Run) -> dict[str, str]:
    """What made a student, by the names of the settings."""
    assert run.student is not None
    training = run.student.training
    played = isinstance(training.data, OwnGames)
    online = "finetune" if "finetune" in run.config else "imitate"
    train = run.config.get(online if played else "train", {})
    # Of an online run that setting is a budget, which minutes, rounds or a score may have cut short.
    used = training.data.states if played else train.get("states")
    late = training.learning_rate or train.get("learning_rate", "–")
    plain = training.jacobian_weight == 0
    idle = (
        {
            "jacobian_schedule",
            "jacobian_until",
            "jacobian_share",
            "jacobian_targets",
            "jacobian_blur",
            "match",
            "law",
            "k",
        }
        if plain
        else set()
    )
    return {
        "network": f"{training.student}: {_layers(run.student.net)}",
        **{name: "–" if name in idle else str(value) for name, value in training.objective.items()},
        "s (mean ‖Jᵀv‖²)": "–" if plain else f"{training.jacobian_scale:.4g}",
        "dataset": f"{training.data.folder}, {training.data.states:,} states",
        "states used": "all" if used is None else f"{used:,}",
        "held-out share": str(training.val_fraction),
        "batch size": str(train.get("batch_size", "–")),
        "learning rate": " to ".join(str(rate) for rate in (training.early_learning_rate, late) if rate is not None),
        "steps (best)": f"{training.steps:,} ({training.best_step:,})",
        "seed": str(training.seed),
        "training time": f"{training.train_seconds:,.0f} s",
    }


def _layers(net: nn.Module) -> str:
    if not described(net):
        return f"{count_parameters(net):,} parameters, built by a program"
    spec = net.spec
    convs = [f"conv {channels} {kernel}×{kernel}/{stride}" for channels, kernel, stride in spec.convs]
    parts = [*convs, *(f"dense {width}" for width in spec.hidden), spec.activation, spec.options()]
    return ", ".join(part for part in parts if part)


def _commands(record: Scores, runs: Mapping[str, Run]) -> str:
    collected = dict.fromkeys(command for run in runs.values() for command in run.collected)
    blocks = [("collect", "\n".join(collected))] if collected else []
    blocks += [(f"train {name}", run.command) for name, run in runs.items() if run.command]
    blocks.append(("evaluate", record.command))
    shown = "".join(f"<h3>{escape(title)}</h3><pre>{escape(command)}</pre>" for title, command in blocks)
    return f"<h2>Commands</h2>{shown}"


def _versions(record: Scores) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in record.versions.items() if name != "cores")
    return f"<h2>Versions</h2><p>{escape(listed)}</p>"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> str:
    head = "".join(f"<th>{escape(titles[c])}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{row[c]}</td>' for c in columns)}</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _notes(sentences: Sequence[str]) -> str:
    return "".join(f"<p class='note'>{escape(sentence)}</p>" for sentence in sentences)


def _typeset(cell: str) -> str:
    """A number as text, with true minus signs and dashes."""
    return "–" if cell == "-" else escape(cell.replace("-", "−").replace(" .. ", " to ").replace("%", " %"))


def _agent(agents: Agents, name: str) -> str:
    """An agent's name with its colour in the pictures; it may break where run folders join their parts."""
    colour = "currentColor" if agents[name].kind != "student" else colours(agents, LIGHT)[name]
    return f"<span class='dot' style='background:{colour}'></span>{escape(name).replace('__', '__<wbr>')}"


def _missing(sentences: Sequence[str]) -> str:
    return "".join(f"<p class='missing'>{escape(sentence.replace('..', '.'))}</p>" for sentence in sentences)


def _figure(pictures: Mapping[str, bytes], name: str, alt: str, caption: str, *, wide: bool = False) -> str:
    """A picture in its light and dark version, or nothing where it was not drawn."""
    if f"{name}.png" not in pictures:
        return ""
    light, dark = (_data_uri(pictures[f"{name}{suffix}.png"]) for suffix in ("", "-dark"))
    width, height = struct.unpack(">II", pictures[f"{name}.png"][16:24])
    # A wide picture shrinks on a phone only as far as its labels can be read, then scrolls.
    box, least = (" class='scroll'", f" style='min-width:{width * 2 // 5}px'") if wide else ("", "")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f"<figure><div{box}><picture><source media='(prefers-color-scheme: dark)' srcset='{dark}'>"
        f"<img src='{light}' alt='{escape(alt)}' width='{width // 2}' height='{height // 2}'{least}></picture></div>"
        f"{below}</figure>"
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
