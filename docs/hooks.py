"""Hooks of the documentation site: reference text that is generated from the package itself.

A page names what it wants in a comment, `<!-- generated: cli -->`. Nothing that the package states about itself is
written down a second time.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import click

from blindsr.cli.main import cli
from blindsr.image_io.formats import FORMATS
from blindsr.registry import ESTIMATORS, UPSCALERS, Registry

__all__ = ["GENERATED", "MARKER", "generate", "on_page_markdown"]

# Settings of methods that the run decides, in the table [run].
OF_THE_RUN = {"seed", "precision", "setting"}
MARKER = re.compile(r"<!-- generated: ([a-z-]+) -->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the markers of a page (called by mkdocs for every page)."""
    return generate(markdown)


def generate(markdown: str) -> str:
    """Replace each marker by the text that it names.

    Raises:
        KeyError: A marker names an unknown text.
    """
    return MARKER.sub(lambda marker: GENERATED[marker[1]](), markdown)


def command_line() -> str:
    """The help of every command, each under a heading of its own."""

    def pages(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
        context = click.Context(command, info_name=path.split()[-1], parent=parent, max_content_width=100)
        context.terminal_width = 100
        yield f"## `{path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                if child is not None and not child.hidden:
                    yield from pages(child, f"{path} {name}", context)

    return "\n".join(pages(cli, "blindsr", None))


def _methods(registry: Registry[Any]) -> dict[str, Any]:
    return {name: registry.get(name) for name in registry.names()}


def _estimators() -> dict[str, Any]:
    return _methods(ESTIMATORS)


def _upscalers() -> dict[str, Any]:
    return _methods(UPSCALERS)


def _summary(method: type) -> str:
    return (inspect.getdoc(method) or "").split("\n\n")[0].replace("\n", " ")


def _scales(method: type) -> str:
    return ", ".join(f"×{scale}" for scale in sorted(method.scales))


def _min_side(method: type) -> str:
    scale = min(method.scales)
    return str(method.min_side(scale) if callable(method.min_side) else method.min_side)


def estimators() -> str:
    """The table of kernel estimators."""
    rows = ["| name | estimate | scales | minimum side at the smallest scale, px |", "|---|---|---|---|"]
    for name, method in _estimators().items():
        rows.append(f"| `{name}` | {_summary(method)} | {_scales(method)} | {_min_side(method)} |")
    return "\n".join(rows)


def upscalers() -> str:
    """The table of upscalers."""
    rows = ["| name | method | scales | minimum side, px | memory |", "|---|---|---|---|---|"]
    for name, method in _upscalers().items():
        memory = "grows with the image" if method.needs_whole_image else "bounded (tiles)"
        rows.append(f"| `{name}` | {_summary(method)} | {_scales(method)} | {_min_side(method)} | {memory} |")
    return "\n".join(rows)


def formats() -> str:
    """The table of the file formats that are read or written (not of those that are only recognised)."""
    rows = ["| `--format` | suffixes | written, bits | alpha | rows are | needs |", "|---|---|---|---|---|---|"]
    for row in (row for row in FORMATS if row.codec or row.is_written):
        suffixes = ", ".join(row.suffixes)
        extra = f"`blindsr[{row.extra}]`" if row.extra else ""
        bits, alpha, rows_are = (
            (str(row.bits), "yes" if row.alpha else "no", "streamed" if row.streams else "held until the end")
            if row.is_written
            else ("no", "", "")
        )
        rows.append(f"| `{row.name}` | {suffixes} | {bits} | {alpha} | {rows_are} | {extra} |")
    return "\n".join(rows)


def settings() -> str:
    """The tables of run.toml: each method's settings with defaults and comments."""
    parts = []
    for name, method in {**_estimators(), **_upscalers()}.items():
        known = [field for field in fields(method.config_type) if field.name not in OF_THE_RUN]
        if not known:
            continue
        comments = _comments(method.config_type)
        rows = [f"### `[{name}]`", "", "| key | default | meaning |", "|---|---|---|"]
        rows += [f"| `{field.name}` | {_default(field)} | {comments.get(field.name, '')} |" for field in known]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _default(field: Field[Any]) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
    return f"`{type(value).__name__}()`" if is_dataclass(value) else f"`{value!r}`"


def _comments(config: type) -> dict[str, str]:
    """The comments of the fields of a dataclass: the one behind a field, or else the lines above it."""
    comments: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(config).splitlines():
        text = line.strip()
        declared = re.match(r" {4}(\w+): [^#]*?(?:#\s*(.*))?$", line)
        if declared:
            comment = declared[2] or " ".join(above)
            comments.setdefault(declared[1], re.sub(r"([|\[\]])", r"\\\1", comment))
        above = [*above, text.lstrip("# ")] if text.startswith("#") else []
    return comments


GENERATED: Mapping[str, Callable[[], str]] = {
    "cli": command_line,
    "estimators": estimators,
    "upscalers": upscalers,
    "formats": formats,
    "settings": settings,
}
