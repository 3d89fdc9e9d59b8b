"""run.toml: tables of settings, checked key by key: an unknown key or a wrong type is an error."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from blindsr.errors import ConfigError

__all__ = ["RUN_KEYS", "TABLES", "read_tables", "table_values"]

TABLES = ("run", "files", "spectral", "l0", "kernelgan", "zssr")

# [run] has the names of the command line's options. Its values are checked by the same types.
RUN_KEYS: Mapping[str, Any] = {
    "scale": float | tuple[float, float],
    "size": tuple[int, int],
    "preset": str,
    "estimator": str,
    "start": str,
    "zssr_setting": str,
    "region": tuple[int, int, int, int],
    "device": str,
    "seed": int,
    "threads": int,
    "precision": str,
    "max_memory": int | str,
}

# Fields that the run decides for every part; a second place to set them would be ignored or contradict.
_IN_RUN = {"seed": "seed", "precision": "precision", "setting": "zssr_setting"}


def read_tables(path: Path) -> dict[str, dict[str, object]]:
    """Read run.toml.

    Returns:
        Its tables, by name; a table that is not there is empty. [run] is checked, the others are not yet:
        their keys depend on the preset.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or holds an unknown table or key, or a wrong type.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as text ({error}); name a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is no valid TOML: {error}; mend that line.") from error
    for name, table in content.items():
        if name not in TABLES or not isinstance(table, dict):
            what = "table" if isinstance(table, dict) else "key outside of a table"
            raise ConfigError(
                f"{path.name} has an unknown {what} {name!r}; tables are {', '.join(f'[{t}]' for t in TABLES)}."
            )
    tables = {name: dict(content.get(name, {})) for name in TABLES}
    tables["run"] = _checked(tables["run"], RUN_KEYS, "run")
    return tables


def table_values(table: Mapping[str, object], settings: type, name: str) -> dict[str, object]:
    """The values of a table as arguments of a dataclass of settings.

    Args:
        table: As read.
        settings: The dataclass.
        name: The table's, for messages.

    Raises:
        ConfigError: A key is unknown or belongs to [run], or a value has the wrong type; the message names
            the table, the key and the nearest known key.
    """
    hints = get_type_hints(settings)
    known = {field.name: hints[field.name] for field in fields(settings)}
    for key in table:
        if key in _IN_RUN and key in known:
            raise ConfigError(f"[{name}] {key} is set for the whole run; write {_IN_RUN[key]} into [run].")
    return _checked(table, {key: hint for key, hint in known.items() if key not in _IN_RUN}, name)


def _checked(table: Mapping[str, object], known: Mapping[str, Any], name: str) -> dict[str, object]:
    values = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"[{name}] has no key {key!r}; {_nearest(key, known)}")
        fitted = _fitted(value, known[key])
        if fitted is _WRONG:
            raise ConfigError(f"[{name}] {key} must be {_in_words(known[key])}, got {value!r}.")
        values[key] = fitted
    return values


def _nearest(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known keys are {', '.join(names)}."


_WRONG = object()
_WORDS: Mapping[object, str] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
}


def _fitted(value: object, hint: object) -> object:
    """`value` as the type `hint`, or `_WRONG`. TOML writes tuples as arrays, and 2 where 2.0 is meant."""
    origin = get_origin(hint)
    if origin is Literal:
        return value if value in get_args(hint) else _WRONG
    if origin in (Union, UnionType):
        options = [_fitted(value, option) for option in get_args(hint) if option is not NoneType]
        return next((fitted for fitted in options if fitted is not _WRONG), _WRONG)
    if origin is tuple:
        return _fitted_tuple(value, get_args(hint))
    if hint is Path:
        return Path(value) if isinstance(value, str) else _WRONG
    if hint is float:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _WRONG
    if hint is int:
        return value if isinstance(value, int) and not isinstance(value, bool) else _WRONG
    return value if isinstance(hint, type) and isinstance(value, hint) else _WRONG


def _fitted_tuple(value: object, hints: tuple[Any, ...]) -> object:
    if not isinstance(value, list):
        return _WRONG
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        return _WRONG
    items = tuple(_fitted(item, hint) for item, hint in zip(value, hints, strict=True))
    return _WRONG if _WRONG in items else items


def _in_words(hint: object) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if origin in (Union, UnionType):
        return " or ".join(_in_words(option) for option in get_args(hint) if option is not NoneType)
    if origin is tuple:
        args = get_args(hint)
        many = "" if args[-1] is Ellipsis else f"{len(args)} "
        return f"an array of {many}values, each {_in_words(args[0])}"
    return _WORDS.get(hint, str(hint))
