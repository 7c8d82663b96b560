"""Teachers that a program of the user's makes: ``--teacher=my_package.agents:load``."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import torch
from torch import nn

from distill.envs.presets import OBS_SHAPE, get_preset
from distill.errors import UserError, first_line
from distill.networks.weights import fingerprint
from distill.system.files import at_home
from distill.system.registry import import_dotted, is_dotted
from teachers.protocol import Teacher


def is_path(name: str) -> bool:
    """True for a dotted path, ``package.module:attribute``, that is no file's name."""
    return is_dotted(name) and not at_home(name).exists()


def made_by(name: str) -> Teacher | nn.Module:
    """What the callable at a dotted path makes.

    Raises:
        UserError: no such callable, one that fails, or one that makes something else.
    """
    call = import_dotted("teacher", name)
    if not callable(call) or isinstance(call, Teacher | nn.Module):
        raise UserError(
            f"teacher {name!r} must be a callable without arguments that returns a Teacher or an nn.Module, but is a "
            f"{type(call).__name__}"
        )
    try:
        made = call()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"teacher {name!r} fails ({type(error).__name__}: {first_line(error)}); mend it") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"teacher {name!r} must return a Teacher or an nn.Module, but returns a {type(made).__name__}")
    return made


def teacher_at(name: str, *, game: str | None, preset: str | None, recorded: str | None) -> Teacher:
    """The teacher at a dotted path.

    Args:
        name: the path.
        game: canonical name of the game to play; a bare network plays this one.
        preset: what it sees, whatever the Teacher says.
        recorded: what a bare network sees otherwise, by default ``sb3``.

    Raises:
        UserError: as ``made_by``; a Teacher of another game; a bare network and no game; output that is no logits.
    """
    made = made_by(name)
    if not isinstance(made, Teacher):
        if game is None:
            raise UserError(f"cannot tell which game {name} plays; name it with --env")
        made = Teacher.of(made, game=game, preset=get_preset(preset or recorded or "sb3").name)
    info = dataclasses.replace(made.info, name=name, preset=get_preset(preset or made.info.preset).name)
    if game is not None and info.game != game:
        raise UserError(f"teacher {name} plays {info.game}, not {game}; choose another teacher or game")
    if not re.fullmatch("[0-9a-f]{64}", info.fingerprint):
        raise UserError(f"teacher {name}: the fingerprint of its Teacher is no SHA-256; make it with Teacher.of")
    _check_output(name, made.net, info.num_actions)
    return Teacher(made.net, dataclasses.replace(info, fingerprint=_known_by(info.fingerprint, name)))


def _known_by(weights: str, name: str) -> str:
    """The path counts, too: what a program does beside the weights does not show in them."""
    return fingerprint({}, name) if weights == fingerprint({}) else fingerprint({}, weights, name)


def file_of(name: str) -> Path:
    """The file of the module in a dotted path that was imported."""
    return Path(str(getattr(sys.modules[name.partition(":")[0]], "__file__", name)))


def _check_output(name: str, net: nn.Module, num_actions: int) -> None:
    try:
        with torch.no_grad():
            shape = tuple(net(torch.zeros(2, *OBS_SHAPE)).shape)
    except Exception as error:
        raise UserError(
            f"teacher {name!r} does not take float pixels (B, 4, 84, 84) ({type(error).__name__}: {first_line(error)})"
        ) from error
    if shape != (2, num_actions):
        raise UserError(f"teacher {name!r} gives {shape} for two states, not logits (2, {num_actions})")
