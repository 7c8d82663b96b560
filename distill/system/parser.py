"""Settings from a command line and YAML files: what is wrong with them, in one sentence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from distill.errors import UserError, first_line, nearest
from distill.system.files import at_home
from distill.system.yaml_text import BadYaml, RefusedYaml, load_yaml, read_yaml

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

ALONE = ("--print_config", "--help", "-h")
"""Flags without a value of their own."""


def make_parser(program: str, description: str, settings: type) -> ArgumentParser:
    """A parser with one ``--config`` and a flag for every field of a dataclass."""
    from jsonargparse import ArgumentParser, set_loader, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    set_loader("strict", _load_value, (BadYaml,))
    parser = ArgumentParser(
        prog=program,
        description=description,
        usage=f"{program} [--config FILE.yaml] [--NAME VALUE ...]",
        exit_on_error=False,
        allow_abbrev=False,
        parser_mode="strict",
    )
    parser.add_argument("--config", action="config", help="YAML file; later settings win")
    _resolve_annotations(settings)
    parser.add_class_arguments(settings, as_group=False)
    _show_choices(parser, settings)
    return parser


def _show_choices(parser: ArgumentParser, settings: type) -> None:
    """The help names what a registry has, as it does for other choices."""
    kinds = {f"{name}.": kind for name, kind in get_type_hints(settings).items()} | {"": settings}
    choices = {
        above + name: names for above, kind in kinds.items() for name, names in getattr(kind, "CHOICES", {}).items()
    }
    for action in parser._actions:
        if action.dest in choices:
            action.metavar = f"{{{','.join(choices[action.dest]())}}}"


def _resolve_annotations(settings: type) -> None:
    """Fields that a dataclass inherits are annotated with names of another module, which the parser cannot see."""
    init: Any = settings.__init__  # type: ignore[misc]
    hints = get_type_hints(settings)
    init.__annotations__ = {name: hints.get(name, kind) for name, kind in init.__annotations__.items()}


def bring_forward(parser: ArgumentParser, names: Sequence[str], title: str) -> None:
    """Show these settings first in the help, in a group of their own."""
    group: Any = parser.add_argument_group(title)
    groups: Any = parser._action_groups
    by_name = {action.dest: (action, owner) for owner in groups for action in owner._group_actions}
    for name in names:
        action, owner = by_name[name]
        owner._group_actions.remove(action)
        group._group_actions.append(action)
    groups.remove(group)
    groups.insert(0, group)  # before --help, --config and what every stage reads


def read(parser: ArgumentParser, words: Sequence[str], nearer: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a dataclass's fields on a command line.

    Args:
        parser: of ``make_parser``.
        words: the command line.
        nearer: sections to look in first for what a misspelt name may mean, then in all.

    Raises:
        UserError: an unknown key (with the nearest known one), a value of the wrong type, or an unclear file.
    """
    from argparse import ArgumentError

    words, keys, defaults = _files_first(words), known(parser), vars(parser.get_defaults())
    sections = [name for name, value in defaults.items() if isinstance(value, Mapping) or hasattr(value, "as_flat")]
    place = {section: number for number, section in enumerate(nearer)}
    keys = sorted(keys, key=lambda key: place.get(key.partition(".")[0], len(place)))
    _check_words(words, keys)
    _check_files(words, sections)
    try:
        namespace: Namespace = parser.parse_args(words)
        for section in sections:
            if not isinstance(namespace[section], type(defaults[section])):
                raise UserError(f"{section!r} is a group of settings, not a value; got {namespace[section]!r}")
        fields = parser.instantiate(namespace)
    except ArgumentError as error:
        raise UserError(readable(str(error), keys)) from error
    return {key: value for key, value in vars(fields).items() if key != "config"}


def _files_first(words: Sequence[str]) -> list[str]:
    """Flags win over files wherever they stand; of several files the last one does."""
    files, flags, rest = [], [], iter(words)
    for word in rest:
        if word == "--config":
            files += [word, *itertools.islice(rest, 1)]
        elif word.startswith("--config="):
            files.append(word)
        else:
            flags.append(word)
    return [*files, *flags]


def known(parser: ArgumentParser) -> list[str]:
    """Every setting's dotted name."""
    return [key for key in vars(parser.get_defaults().as_flat()) if key != "config"]


def _load_value(text: str) -> Any:
    """YAML of a file or of one value on the command line, for the parser, which takes what is no YAML as text."""
    try:
        value = load_yaml(text)
    except RefusedYaml as error:
        raise UserError(f"cannot read {_short(text)!r}: {error}") from error
    # {env} is a folder's name and not a mapping.
    return text if isinstance(value, dict) and text.startswith("{") and ":" not in text else value


def _check_words(words: Sequence[str], keys: list[str]) -> None:
    """Refuse words that are neither a flag nor its value, and say how they are written."""
    takes_value = False
    for place, word in enumerate(words):
        if word.startswith("--") or word in ALONE:
            takes_value = "=" not in word and word not in ALONE
        elif takes_value:
            takes_value = False
        else:
            _refuse_word(word, next(iter(words[place + 1 :]), "--"), keys)


def _refuse_word(word: str, after: str, keys: list[str]) -> None:
    name, equals, value = word.lstrip("-").partition("=")
    if not equals:
        value = "VALUE" if after.startswith("--") else after
    if name in keys or name == "config":
        raise UserError(f"{word!r} is not a setting; write --{name}={value}")
    ending = [key for key in keys if key.rpartition(".")[2] == name]
    if ending:
        raise UserError(f"unknown setting {word!r}; write {' or '.join(f'--{key}={value}' for key in ending)}")
    raise UserError(
        f"unknown setting {name or word!r}{_meant(name, keys)}; write settings as --NAME=VALUE, in quotes "
        "where VALUE has spaces, and see --help for all"
    )


def _meant(word: str, keys: Sequence[str]) -> str:
    """`` (did you mean 'x'?)``; the first setting that is called so in some section, else the closest."""
    called = [key for key in keys if key.rpartition(".")[2] == word.rpartition(".")[2]]
    return f" (did you mean {called[0]!r}?)" if called else nearest(word, keys)


def _check_files(words: Sequence[str], sections: Sequence[str]) -> None:
    """Name the ``--config`` file that is wrong, and what in it; the parser's own messages do not."""
    given = [after for word, after in itertools.pairwise(words) if word == "--config"]
    for name in given + [word.removeprefix("--config=") for word in words if word.startswith("--config=")]:
        if not name:
            raise UserError("--config must name a YAML file; got nothing")
        try:
            content = read_yaml(at_home(name))
        except RefusedYaml as error:
            raise UserError(f"cannot read the settings in {name}: {error}") from error
        except BadYaml as error:
            raise UserError(f"{name} is not YAML: {error}; correct it") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"cannot read the settings in {_short(name)}: {reason}") from error
        if content is None or content == {}:
            raise UserError(f"{name} holds no settings: it is empty, or has only comments")
        if not isinstance(content, dict):
            raise UserError(f"{name} does not hold settings (lines such as `seed: 1`)")
        _check_sections(name, content, sections)


def _check_sections(name: str, content: Mapping[Any, Any], sections: Sequence[str]) -> None:
    for section in sections:
        if section in content and content[section] is None:
            raise UserError(f"{name}: the section {section!r} is empty; give it settings, or leave its line out")
    for key in [*content, *(inner for section in sections for inner in _mapping(content.get(section)))]:
        if not isinstance(key, str) or key == "config":
            raise UserError(f"{name}: {key!r} cannot be the name of a setting")
    for key in content:
        section, _, rest = key.partition(".")
        if rest and section in content:
            raise UserError(
                f"{name}: write {key!r} as {rest!r} within the section {section!r}, which stands there, too"
            )


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def read_saved(path: Path, advice: str) -> dict[str, Any]:
    """The settings in a run's config.yaml.

    Raises:
        UserError: ending in ``advice``, where it cannot be read or holds something else.
    """
    try:
        saved = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable ({first_line(error)}); {advice}") from error
    if not isinstance(saved, dict):
        raise UserError(f"{path} does not hold a run's settings; {advice}")
    return saved


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
            return f"unknown setting {word!r}{_meant(word, keys)}; see --help for all"
    none_fits = re.search(r'key "([\w.]+)": Does not validate .*Subtypes: \[(.+?)\] Errors: .*Given value: (.+)', text)
    if none_fits:
        kinds = re.sub(r"<class '(\w+)'>", r"\1", none_fits[2]).replace(", NoneType", " or null")
        kinds = kinds.replace(", typing.Literal", " or one of ")
        return f"--{none_fits[1]} must be {kinds}, got {_short(none_fits[3])}"
    group = re.search(r'key "([\w.]+)": Unable to load config .(.+?). - ', text)
    if group:
        return f"{group[1]!r} is a group of settings, not a value; got {_short(group[2])}"
    wrong = re.search(r'key "([\w.]+)": Expected an? (.+?)\. Got value:(.*)', text)
    if wrong:
        kind = re.sub(r"typing\.|<class '(\w+)'>", r"\1", wrong[2]).replace("Literal", "one of ")
        value = _short(wrong[3].strip())
        value = {"None": "null", "": "nothing"}.get(value, value)
        return f"--{wrong[1]} must be {kind}, got {value}{_remedy(kind, value)}"
    return _short(text, 400)


def _remedy(kind: str, value: str) -> str:
    """What to write instead of a value of the wrong kind, where that is plain."""
    if value in ("null", "nothing"):
        return ""
    if kind == "list" and value.startswith("["):
        return "; put items that have brackets, braces, commas or quotes in them in quotes"
    if kind.startswith("dict") and re.search(r":\S", value):
        return "; write a space after every colon, such as {seed: [1, 2]}"
    if kind == "list" and re.match(r"[\w./~]", value):
        return f"; write [{value}]"
    return "; put it in quotes" if kind == "str" else ""


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
