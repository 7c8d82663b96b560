"""YAML as plain data, whatever Python tags it carries: rl-zoo dumps its settings with tags that build objects."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from distill.errors import UserError, first_line
from distill.system.yaml_text import FAST, BadYaml, RefusedYaml, read_yaml

log = logging.getLogger(__name__)


class _Plain(FAST):  # type: ignore[misc]
    """Reads ``!!python/...`` tags as what stands behind them: text, lists and dictionaries."""


def _untagged(loader: Any, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value or suffix.rpartition(":")[2]  # !!python/name:torch.nn.ReLU '' is its name
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    assert isinstance(node, yaml.SequenceNode)
    value = loader.construct_sequence(node, deep=True)
    if suffix.endswith("OrderedDict"):  # the constructor's arguments: one list of pairs
        return _mapping(value[0]) if len(value) == 1 else value
    return value


_Plain.add_multi_constructor("tag:yaml.org,2002:python/", _untagged)


def _mapping(value: Any) -> Any:
    """A dictionary for a list of pairs whose first parts can be keys; anything else as it is."""
    pairs = isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], Hashable) for pair in value
    )
    if not pairs:
        return value
    keys = [key for key, _ in value]
    repeated = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
    if repeated is not None:
        raise RefusedYaml(f"{repeated!r} is a duplicate: it is given twice; keep one")
    return dict(value)


def read_plain_yaml(path: Path) -> dict[str, Any]:
    """Settings in a YAML file; nothing in it is ever run.

    Returns:
        Its dictionary, also where it is written as a list of pairs; empty where there is no file or no dictionary.

    Raises:
        UserError: it cannot be read, is not YAML, or is refused as any YAML here (``distill.system.yaml_text``).
    """
    if not path.is_file():
        return {}
    try:
        value = _mapping(read_yaml(path, _Plain))
    except (OSError, BadYaml) as error:
        trouble = "are not YAML" if type(error) is BadYaml else "cannot be read"
        reason = f"{path}: the agent's settings {trouble} ({first_line(error)}); correct or remove it"
        raise UserError(reason) from error
    if isinstance(value, dict):
        return value
    if value is not None:
        log.warning("%s does not hold an agent's settings (lines such as `env: PongNoFrameskip-v4`); ignored", path)
    return {}
