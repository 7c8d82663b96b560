"""``distill evaluate``: any mix of teachers and students, the same games, one scores.json."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.agents.agents import Agent, find_agents
from distill.agents.episodes import Match, play
from distill.agents.folder import check_folder
from distill.agents.names import PLAYING, SCORES
from distill.attack.policy import Assault
from distill.attack.ready import find_source, try_out
from distill.dataset.reader import Dataset
from distill.dataset.shards import folder_digest
from distill.envs.games import human_normalized
from distill.envs.presets import get_preset
from distill.envs.protocols import get_protocol
from distill.envs.step import Game
from distill.errors import UserError
from distill.evaluate.board import log_scores
from distill.evaluate.held_out import Measured, check_data, fidelity, on_own_games
from distill.evaluate.kept import Kept, Played, Terms
from distill.evaluate.settings import EvaluateConfig, EvaluateRun
from distill.evaluate.tables import show
from distill.figures.figure import OWN, chosen
from distill.figures.shares import related
from distill.figures.statistics import summarise
from distill.networks.nets import count_parameters, policy_part
from distill.records.scores import FIGURE, AgentScores, Scores, read_scores, write_scores
from distill.system.alone import alone
from distill.system.device import pick_device
from distill.system.progress import Bar, console
from distill.system.provenance import command_line, versions
from distill.system.settings import fill

ANOTHER = "choose another --evaluate.out"
"""What helps where scores of something else are in the way."""


def evaluate(config: EvaluateRun) -> Scores:
    """See ``distill.config.stages.evaluate``, which checks ``config`` first."""
    device = pick_device(config.device)
    agents = find_agents(config, config.evaluate.agents)
    folder, own = fill(config.evaluate.out, env=config.env), _own_figures(config)
    path, assault = folder / SCORES, _assault(config, agents, device)
    attack = {} if assault is None else assault.to_dict()
    if path.exists():
        record = _existing(path, config, agents, attack)
        _film_missing(config, agents, folder, device, assault)
        return record
    # What can be refused is refused before hours of play.
    _check(config, agents, folder)
    with alone(folder, "--evaluate.out", PLAYING):
        if path.exists():  # another process has just finished it
            return _existing(path, config, agents, attack)
        terms = _terms(config, agents, attack)
        kept = Kept(folder, terms)
        record = _record(config, agents, terms, _all_scores(config, agents, kept, folder, device, assault), own)
        log_scores(folder, agents, record)  # before what says that all is done
        write_scores(path, record)
        kept.remove()
    show(record)
    console.print(f"written: {path}")
    return record


def _check(config: EvaluateRun, agents: Sequence[Agent], folder: Path) -> None:
    """Refuse a folder that cannot take what is to come, and videos that cannot be made."""
    videos = config.evaluate.capture_video
    if videos:
        from distill.agents.video import require_video

        require_video()
    check_folder(folder, [agent.name for agent in agents], "--evaluate.out", videos=videos)


def _terms(config: EvaluateRun, agents: list[Agent], attack: Mapping[str, Any]) -> Terms:
    e = config.evaluate
    return Terms(config.env, _presets(agents), e.protocol, e.games, e.num_envs, config.seed, attack)


def _all_scores(
    config: EvaluateRun, agents: list[Agent], kept: Kept, folder: Path, device: torch.device, assault: Assault | None
) -> dict[str, AgentScores]:
    """Of every agent, by name: fidelity of all first, which may refuse a student, and then the games."""
    e = config.evaluate
    # A flipped bit would change the figures.
    data = None if e.data is None else Dataset(fill(e.data, env=config.env), verify=e.verify)
    if data is not None:
        check_data(config, agents, data)
    faithful = {agent.name: fidelity(config, agent, data, device) for agent in agents}
    scores: dict[str, AgentScores] = {}
    for agent in agents:
        match = _match(config, agent, device, assault)
        played = kept.find(agent.fingerprint, agent.preset)
        if played is None:
            played = _play(config, agent, match)
            kept.add(agent.fingerprint, played, agent.preset)
        else:
            console.print(f"{agent.name}: its {e.games} games have been played")
        if e.capture_video:
            _film(match, config.seed, folder / f"{agent.name}.mp4")
        scores[agent.name] = _scores(config, agent, faithful[agent.name], played)
        if _presets(agents) != agent.preset:
            scores[agent.name] = dataclasses.replace(scores[agent.name], preset=agent.preset)
    return scores


def _record(
    config: EvaluateRun, agents: list[Agent], terms: Terms, scores: Mapping[str, AgentScores], own: dict[str, Any]
) -> Scores:
    """What scores.json says."""
    e = config.evaluate
    return Scores(
        game=terms.game,
        preset=terms.preset,
        protocol=terms.protocol,
        games=terms.games,
        seed=terms.seed,
        data=_data_digest(config),
        val_states=None if e.data is None else e.val_states,
        num_envs=_lanes(e),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command_line(),
        versions=versions(),
        agents=related(config.env, scores, _teacher_names(agents)),
        figures=own,
        attack=dict(terms.attack),
    )


def _lanes(e: EvaluateConfig) -> int:
    """Games side by side."""
    return min(e.num_envs, e.games)


def _existing(path: Path, config: EvaluateRun, agents: list[Agent], attack: Mapping[str, Any]) -> Scores:
    """Accept a complete scores.json of the same evaluation; refuse any other."""
    record = read_scores(path)
    then = {name: agent.fingerprint for name, agent in record.agents.items()}
    now = {agent.name: agent.fingerprint for agent in agents}
    e = config.evaluate
    pairs = {
        "game": (record.game, config.env), "preset": (record.preset, _presets(agents)),
        "number of games": (record.games, e.games), "protocol": (record.protocol, e.protocol),
        "seed": (record.seed, config.seed), "agents": (", ".join(sorted(then)), ", ".join(sorted(now))),
    }  # fmt: skip
    changed = [f"{name} {old}, not {new}" for name, (old, new) in pairs.items() if old != new]
    changed += [f"another agent called {name}" for name in now if then.get(name, now[name]) != now[name]]
    if changed:
        raise UserError(f"{path} is of {'; '.join(changed)}; {ANOTHER}")
    if record.num_envs not in (None, _lanes(e)):
        raise UserError(
            f"{path} is of {record.num_envs} games side by side, not {_lanes(e)}, which play other games; set "
            f"--evaluate.num_envs={record.num_envs}, or {ANOTHER}"
        )
    if record.attack != attack:
        raise UserError(f"{path} is of games under another attack, or under none; {ANOTHER}")
    if record.data != _data_digest(config):
        raise UserError(
            f"{path} has figures on other held-out states: --evaluate.data was another one, or has changed since; "
            f"{ANOTHER}"
        )
    if record.val_states not in (None, e.val_states):
        raise UserError(
            f"{path} has figures on at most {record.val_states} held-out states, not {e.val_states}; set "
            f"--evaluate.val_states={record.val_states}, or {ANOTHER}"
        )
    if record.figures.keys() != _own_figures(config).keys():
        raise UserError(
            f"{path} has {', '.join(sorted(record.figures)) or 'no'} figures besides the usual ones, not those of "
            f"--evaluate.figures; {ANOTHER}"
        )
    played = dict(record.agents)
    for agent in agents:  # an earlier version compared them with the first teacher, whoever that was
        if agent.student and played[agent.name].teacher is None:
            played[agent.name] = dataclasses.replace(played[agent.name], teacher=agent.student.training.teacher)
        played[agent.name] = dataclasses.replace(played[agent.name], own_games=on_own_games(config, agent))
    if played != record.agents:
        record = dataclasses.replace(record, agents=related(config.env, played, _teacher_names(agents)))
    show(record)
    console.print(f"{path}: already complete; nothing to do")
    return record


def _own_figures(config: EvaluateRun) -> dict[str, dict[str, str]]:
    """What ``evaluate.figures`` adds, described: scores can be shown without the package that has the figures.

    Raises:
        UserError: there is nothing to measure them on.
    """
    if config.evaluate.figures and config.evaluate.data is None:
        raise UserError("--evaluate.figures are measured on recorded states; name a dataset with --evaluate.data")
    return {figure.name: figure.described() for figure in chosen(config.evaluate.figures)[len(OWN) :]}


def _data_digest(config: EvaluateRun) -> str | None:
    """Of ``evaluate.data``, where figures are measured on that."""
    return None if config.evaluate.data is None else folder_digest(fill(config.evaluate.data, env=config.env))


def _presets(agents: list[Agent]) -> str:
    """What the agents see, by agent where it is not the same."""
    if len({agent.preset for agent in agents}) == 1:
        return agents[0].preset
    return ", ".join(f"{agent.preset} ({agent.name})" for agent in agents)


def _teacher_names(agents: list[Agent]) -> dict[str, str]:
    return {agent.name: str(agent.student.training.teacher_name) for agent in agents if agent.student}


def _assault(config: EvaluateRun, agents: Sequence[Agent], device: torch.device) -> Assault | None:
    """What the agents play under; None for nothing."""
    e, threat = config.evaluate, config.threat
    if e.attack is None:
        return None
    source = find_source(config, threat, agents)
    try_out([e.attack], agents, source, threat, config.env)
    known = (None, None) if source is None else (source.net.to(device), source.fingerprint)
    return Assault(e.attack, e.attack_eps, e.attacked_steps, threat, config.seed, *known)


def _match(config: EvaluateRun, agent: Agent, device: torch.device, assault: Assault | None) -> Match:
    protocol = get_protocol(config.evaluate.protocol)
    match = Match(agent.net, config.env, get_preset(agent.preset), protocol, device)
    return match if assault is None else dataclasses.replace(match, policy=assault.policy)


def _play(config: EvaluateRun, agent: Agent, match: Match) -> Played:
    e = config.evaluate
    with Bar(f"play {agent.name}", "games", e.games) as bar:
        ended: list[float] = []

        def on_game(game: Game) -> None:
            ended.append(game.score)
            bar.update(len(ended), f"mean score {np.mean(ended):.1f}")

        try:
            games = play(match, games=e.games, num_envs=e.num_envs, seed=config.seed, on_game=on_game)
        except UserError as error:
            raise UserError(f"agent {agent.name}: {error}") from error
    return Played([game.score for game in games], [game.length for game in games])


def _film_missing(
    config: EvaluateRun, agents: Sequence[Agent], folder: Path, device: torch.device, assault: Assault | None
) -> None:
    """Videos that were not asked for when the games were played."""
    places = {agent.name: folder / f"{agent.name}.mp4" for agent in agents if config.evaluate.capture_video}
    missing = [agent for agent in agents if agent.name in places and not places[agent.name].exists()]
    if missing:
        from distill.agents.video import require_video

        require_video()
    for agent in missing:
        _film(_match(config, agent, device, assault), config.seed, places[agent.name])


def _film(match: Match, seed: int, path: Path) -> None:
    from distill.agents.video import record_game

    record_game(match, seed, path)


def _scores(config: EvaluateRun, agent: Agent, faithful: Measured | None, played: Played) -> AgentScores:
    """An agent's entry in scores.json."""
    summary = summarise(played.returns)
    measured = dict.fromkeys(figure.name for figure in chosen(config.evaluate.figures)) | (faithful or {})
    return AgentScores(
        kind=agent.kind,
        what=agent.what,
        fingerprint=agent.fingerprint,
        parameters=count_parameters(policy_part(agent.net)),
        returns=played.returns,
        lengths=played.lengths,
        mean=summary.mean,
        median=summary.median,
        iqm=summary.iqm,
        ci95=summary.ci95,
        human_normalized=human_normalized(config.env, summary.mean),
        teacher=agent.student.training.teacher if agent.student else None,
        share_note=f"{agent.name} is {_exported(agent)} that does not say who taught it" if agent.exported else None,
        metrics={f"{FIGURE}{name}": value for name, value in measured.items()},
        own_games=on_own_games(config, agent),
    )


def _exported(agent: Agent) -> str:
    return "an ONNX file" if agent.what.endswith(".onnx") else "a zip"
