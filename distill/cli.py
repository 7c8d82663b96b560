"""The ``distill`` command: collect, train, sweep, evaluate, report, info, verify, export."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import UserError, first_line, nearest
from distill.runtime import tune_process

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from distill.config import Config

STAGES = {
    "collect": "play with a teacher and record observations, logits and Jacobians",
    "train": "fit a student to a dataset (Sobolev training)",
    "sweep": "fit a student for every combination of some settings, write rows.csv",
    "evaluate": "play whole games with teachers and students, write scores.json",
    "report": "one HTML page with curves, scores and saliency",
}
TOOLS = {
    "info": "describe a teacher, dataset or student",
    "verify": "check a dataset's checksums and re-label a sample with its teacher",
    "export": "write a student as onnx, safetensors or sb3 zip",
}
ALIASES = {"--env-id": "--env", "--capture-video": "--evaluate.capture_video", "--total-timesteps": "--collect.states"}
AFTER_INTERRUPT = {
    "collect": "; the same command continues",
    "train": "; the same command with --train.resume=true continues",
    "sweep": "; the same command continues",
    "evaluate": "; no score was written",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done, 1 an error the user can fix, 2 a misspelt command line, 130 Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    tune_process()
    try:
        return _dispatch(words)
    except (UserError, OSError) as error:
        message = str(error) if isinstance(error, UserError) else _cannot_write(error)
        if message is None:
            raise
        if debug:
            traceback.print_exception(error)
        print(f"error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{AFTER_INTERRUPT.get(words[0], '')}", file=sys.stderr)
        return 130


def _cannot_write(error: OSError) -> str | None:
    """One sentence for a folder that cannot be written to, or None for an error that is a bug of ours."""
    where = f" {error.filename}" if error.filename else ""
    reason = os.strerror(error.errno or 0).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"cannot write{where}: {reason}; what was committed is safe, so make room and run the command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG):
        return f"cannot write{where}: {reason}; choose another folder"
    return None


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
    """The parser of a stage: one ``--config`` and every field of ``Config``."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    from distill.config import Config

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog=f"distill {command}", description=STAGES[command], exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="YAML file; later settings win")
    parser.add_class_arguments(Config, as_group=False)
    return parser


def parse(command: str, words: Sequence[str]) -> Config:
    """Command line and YAML to a validated config.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    from distill.validate import validated

    return validated(read(command, words))


def read(command: str, words: Sequence[str]) -> Config:
    """Command line and YAML to settings as they were given; the stage checks them.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    return _instantiate(stage_parser(command), _canonical(command, words))


def _canonical(command: str, words: Sequence[str]) -> list[str]:
    """Flags of rl-zoo and CleanRL to ours."""
    if command != "collect" and any(word.partition("=")[0] == "--total-timesteps" for word in words):
        raise UserError("--total-timesteps counts collected states; the length of training is --train.steps")
    renamed = []
    for word in words:
        flag, equals, value = word.partition("=")
        target = ALIASES.get(flag, flag)
        if flag == "--capture-video" and not equals:
            equals, value = "=", "true"
        renamed.append(f"{target}{equals}{value}")
    return renamed


def _instantiate(parser: ArgumentParser, words: list[str]) -> Config:
    from distill.config import Config

    return Config(**settings(parser, words))


def settings(parser: ArgumentParser, words: list[str]) -> dict[str, Any]:
    """The values of a dataclass's fields on a command line.

    Raises:
        UserError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    from argparse import ArgumentError

    _check_files(words)
    try:
        namespace: Namespace = parser.parse_args(words)
        for section, default in vars(parser.get_defaults()).items():
            if isinstance(default, Mapping | type(namespace)) and not isinstance(namespace[section], type(default)):
                raise UserError(f"{section!r} is a group of settings, not a value; got {namespace[section]!r}")
        fields = parser.instantiate(namespace)
    except ArgumentError as error:
        raise UserError(readable(str(error), _keys(parser))) from error
    return {key: value for key, value in vars(fields).items() if key != "config"}


def _check_files(words: list[str]) -> None:
    """Name the ``--config`` file that is missing or not YAML; the parser's own message does not."""
    import yaml

    given = [after for word, after in itertools.pairwise(words) if word == "--config"]
    for name in given + [word.removeprefix("--config=") for word in words if word.startswith("--config=")]:
        try:
            content = yaml.safe_load(Path(name).expanduser().read_text())
        except yaml.MarkedYAMLError as error:
            line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
            raise UserError(f"{name} is not YAML: {error.problem}{line}; correct it") from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = error.strerror if isinstance(error, OSError) else first_line(error)
            raise UserError(f"cannot read the settings in {name}: {reason}") from error
        if not isinstance(content, dict | None):
            raise UserError(f"{name} does not hold settings (lines such as `seed: 1`)")


def _keys(parser: ArgumentParser) -> list[str]:
    return [key for key in vars(parser.get_defaults().as_flat()) if key != "config"]


UNKNOWN_KEY = (
    r"[Uu]nrecognized arguments: (?:--)?([\w.]+)",
    r"(?:Group '(?P<group>[\w.]+)' )?does not accept option '([\w.]+)'",
    r"Option '([\w.]+)' is not accepted",
)


def readable(message: str, keys: list[str]) -> str:
    """The parser's message as one sentence; an unknown key gets the nearest known one."""
    text = " ".join(message.split())
    for pattern in UNKNOWN_KEY:
        match = re.search(pattern, text)
        if match:
            group = match.groupdict().get("group")
            word = f"{group}.{match[match.lastindex or 1]}" if group else match[match.lastindex or 1]
            return f"unknown setting {word!r}{nearest(word, keys)}; see --help for all"
    none_fits = re.search(r'key "([\w.]+)": Does not validate .*Subtypes: \[(.+?)\] Errors: .*Given value: (.+)', text)
    if none_fits:
        kinds = re.sub(r"<class '(\w+)'>", r"\1", none_fits[2]).replace(", NoneType", " or null")
        return f"--{none_fits[1]} must be {kinds}, got {none_fits[3]}"
    wrong = re.search(r'key "([\w.]+)": Expected an? (.+?)\. Got value: (.+)', text)
    if wrong:
        kind = re.sub(r"typing\.|<class '(\w+)'>", r"\1", wrong[2]).replace("Literal", "one of ")
        return f"--{wrong[1]} must be {kind}, got {wrong[3]}"
    return text


def _stage(command: str, words: list[str]) -> int:
    if "--help" in words or "-h" in words:
        stage_parser(command).print_help()
        return 0
    if "--print_config" in words:
        stage_parser(command).parse_args(words)
        return 0
    config = read(command, words)
    if command == "collect":
        from distill.collect.pipeline import collect

        collect(config)
    elif command == "train":
        from distill.train.loop import train

        train(config)
    elif command == "sweep":
        from distill.sweep import sweep

        sweep(config)
    elif command == "evaluate":
        from distill.evaluate.run import evaluate

        evaluate(config)
    else:
        from distill.evaluate.report import report

        report(config)
    return 0


def _tool(command: str, words: list[str]) -> int:
    from distill import tools

    return tools.run(command, words)


if __name__ == "__main__":
    sys.exit(main())
