"""The ``distill`` command: the stages, from ``collect`` to ``report``, and small tools beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.errors import UserError, nearest
from distill.system.parser import bring_forward, known, make_parser, read
from distill.system.plugins import load_plugins
from distill.system.runtime import processes, tune_process
from distill.system.signals import outcome, raising_on_sigterm
from distill.system.trouble import complain, sentence

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from distill.config.config import Config

STAGES = {
    "collect": "play with a teacher and record observations, logits and Jacobians",
    "train": "fit a student to a dataset (Sobolev training)",
    "imitate": "play a little, learn a little: a student learns from its own games (online)",
    "rounds": "the same, with derivatives, kept as data or in rounds, until it is good enough (on-policy)",
    "finetune": "go on with a student (finetune RUN), or begin one, by PPO on its reward, with a teacher or without",
    "multitask": "fit one student to several games: one trunk, a head for each",
    "sweep": "fit a student for every combination of some settings, write rows.csv",
    "pbt": "settings that change on the way, found by a population of students (Ray Tune), and replayed",
    "shrink": "how small? train a ladder of small students; score against weights, bytes, microseconds",
    "evaluate": "play whole games with teachers and students, write scores.json",
    "report": "one HTML page with curves, scores and saliency",
    "attack": "perturb the pixels that agents see: which decisions change",
}
TOOLS = {
    "info": "describe a teacher, dataset or student",
    "verify": "check a dataset's checksums and re-label a sample with its teacher",
    "export": "write a student as onnx, int8 onnx, safetensors or sb3 zip",
    "push": "send a dataset, run or teacher to a store such as s3://",
    "pull": "fetch one from there into a folder",
    "configs": "list the settings files that come along, or copy one to change it",
}
ALIASES = {"--env-id": "--env", "--capture-video": "--evaluate.capture_video", "--total-timesteps": "--collect.states"}
AFTER_INTERRUPT = {
    "collect": "the same command continues",
    "train": "the same command continues",
    "imitate": "the same command continues",
    "rounds": "the same command continues",
    "finetune": "the same command continues",
    "multitask": "the same command continues",
    "sweep": "the same command continues",
    "pbt": "the same command continues",
    "shrink": "the same command continues",
    "evaluate": "the same command goes on after the last agent that finished",
    "attack": "the same command continues",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done, 1 an error the user can fix, 2 a misspelt command line, 130 Ctrl-C, 143 SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    tune_process()
    try:
        with raising_on_sigterm():
            load_plugins()
            return _dispatch(words)
    except Exception as error:
        if debug and sentence(error) is not None:
            traceback.print_exception(error)
        return complain(error)
    except KeyboardInterrupt as error:
        word, status = outcome(error)
        # The stage may know better: a folder with the time in its name is another one next time.
        after = getattr(error, "__notes__", [AFTER_INTERRUPT[words[0]]] if words[0] in AFTER_INTERRUPT else [])
        print("; ".join([word, *after]), file=sys.stderr)
        return status


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    command, rest = words[0], words[1:]
    if command in STAGES:
        return _stage(command, rest)
    if command in TOOLS:
        return _tool(command, rest)
    if command == "--version":
        from distill import __version__

        print(__version__)
        return 0
    print(
        f"error: unknown command {command!r}{nearest(command, [*STAGES, *TOOLS])}; see distill --help", file=sys.stderr
    )
    return 2


def _usage() -> str:
    lines = ["usage: distill COMMAND [--config FILE.yaml] [--key value ...] [--debug]", ""]
    lines += [f"  {name:10}{text}" for name, text in {**STAGES, **TOOLS}.items()]
    lines += [
        "",
        "distill COMMAND --help lists every setting with its default.",
        "--debug shows the traceback of an error.",
    ]
    return "\n".join(lines)


def stage_parser(command: str) -> ArgumentParser:
    """The parser of a stage: one ``--config`` and what the stage reads; the settings that matter come first."""
    from distill.config.stages import SETTINGS

    parser = make_parser(f"distill {command}", STAGES[command], SETTINGS[command])
    bring_forward(parser, SETTINGS[command].FIRST, "settings that matter first")
    return parser


def parse(command: str, words: Sequence[str]) -> Config:
    """Command line and YAML to a validated config.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    from distill.config.validate import validated

    return validated(given(command, words))


def given(command: str, words: Sequence[str]) -> Config:
    """Command line and YAML to settings as they were given; the stage checks them.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    from distill.config.config import Config

    words = _canonical(command, words)
    parser = make_parser(f"distill {command}", STAGES[command], Config)  # a file may be of all stages
    given = read(parser, words, _sections(command))
    _refuse_of_other_stages(command, words, known(parser))
    return Config(**given)


def _sections(command: str) -> list[str]:
    """What a stage reads, its own section first."""
    from distill.config.stages import SETTINGS

    return [command, *(field.name for field in dataclasses.fields(SETTINGS[command]) if field.name != command)]


def _refuse_of_other_stages(command: str, words: Sequence[str], names: Sequence[str]) -> None:
    """A flag that the stage does not read would change nothing, in silence."""
    from distill.config.stages import SETTINGS

    sections = _sections(command)
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        section = name.partition(".")[0]
        if not word.startswith("--") or name not in names or section in sections:
            continue
        readers = sorted(stage for stage, kind in SETTINGS.items() if hasattr(kind(), section))
        raise UserError(
            f"distill {command} does not read --{name}: it is of {' and '.join(f'distill {one}' for one in readers)}; "
            "leave it out"
        )


def _canonical(command: str, words: Sequence[str]) -> list[str]:
    """Flags of rl-zoo and CleanRL to ours; ``distill finetune RUN`` is short for a flag."""
    if command != "collect" and any(word.partition("=")[0] == "--total-timesteps" for word in words):
        raise UserError("--total-timesteps counts collected states; the length of training is --train.steps")
    if command == "finetune" and words and not words[0].startswith("-"):
        if any(word.partition("=")[0] == "--finetune.init" for word in words):
            raise UserError(f"{words[0]} and --finetune.init both say whom to go on with; leave one of them out")
        words = [f"--finetune.init={words[0]}", *words[1:]]
    renamed = []
    for word in words:
        flag, equals, value = word.partition("=")
        target = ALIASES.get(flag, flag)
        if flag == "--capture-video" and not equals:
            equals, value = "=", "true"
        renamed.append(f"{target}{equals}{value}")
    return renamed


def _stage(command: str, words: list[str]) -> int:
    if "--help" in words or "-h" in words:
        stage_parser(command).print_help()
        return 0
    if any(word.partition("=")[0] == "--print_config" for word in words):
        return _print_config(command, words)
    from distill.config import stages

    getattr(stages, command)(given(command, words))
    if processes() > 1:
        from distill.train.team import Team

        Team.leave()
        # An interpreter that ends while threads of torch.distributed are still at work now and then aborts.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _print_config(command: str, words: Sequence[str]) -> int:
    """Print all settings as YAML, if they are good ones."""
    with contextlib.redirect_stdout(io.StringIO()):  # a drawn seed is not to stand in the YAML
        parse(command, [word for word in words if word.partition("=")[0] != "--print_config"])
    from distill.config.config import Config

    read(make_parser(f"distill {command}", STAGES[command], Config), _canonical(command, words))  # prints and leaves
    return 0


def _tool(command: str, words: list[str]) -> int:
    from distill.cli import tools

    return tools.run(command, words)
