"""Types of command-line values: files, scales, sizes, regions, amounts of memory and of pixels, kernel indices."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from blindsr.registry import Registry

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # it is no generic class in most releases of Click 8

__all__ = [
    "FILE_OR_NAME", "FILE_SIZE", "INDEX", "MEMORY", "OUTPUT", "PAIR", "PHOTO", "PIXELS", "REGION", "SCALE", "SHARE",
    "SIZE",
    "FloatRange",
    "IntRange",
    "MethodChoice",
    "OutputPath",
    "ParamType",
]  # fmt: skip


def _no_address(text: str) -> str:
    """A text that may name a file, and is no address."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        way = "name the file by its path" if text.lower().startswith("file:") else "download it, and name the file"
        raise ValueError(f"{text} is an address, and nothing is fetched over a network; {way}.")
    return text


class _FileType(click.Path):
    """A path. Existence is not checked here: a missing, damaged or foreign file is the library's error, in one line."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Refuse addresses, of which a path would lose a slash."""
        try:
            _no_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True, slots=True)
class OutputPath:
    """Where results go: a file or a folder."""

    path: Path
    is_folder: bool = False  # one of this name exists, or the name was written with a slash at its end


class _OutputType(ParamType):
    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> OutputPath:
        if isinstance(value, OutputPath):
            return value
        text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
        if not text.strip():
            self.fail(
                "needs a file or a folder, got an empty text; leave it out to write beside the input.", param, ctx
            )
        if os.path.exists(text) and not (os.path.isfile(text) or os.path.isdir(text)):  # noqa: PTH110, PTH112, PTH113
            self.fail(
                f"needs a file or a folder, got {text}, which is a device or a pipe; name a file, or give - for "
                "standard output.",
                param,
                ctx,
            )
        path: Path = PHOTO.convert(text, param, ctx)
        # os.path.isdir is False where pathlib raises, such as for a name that is too long.
        return OutputPath(path, text.endswith(("/", os.sep)) or os.path.isdir(path))  # noqa: PTH112


class _Parsed(ParamType):
    """A value that a function makes of a text, or of the value of run.toml; its ValueError says what is needed."""

    def __init__(self, name: str, parse: Callable[[Any], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Parse a value."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _region(value: str | Sequence[int]) -> tuple[int, int, int, int]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        x, y, width, height = (int(str(part)) for part in parts)
    except ValueError:
        raise ValueError(f"needs four whole numbers x,y,w,h, got {value!r}; for example 100,80,256,256.") from None
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError(f"needs x and y of 0 or more, w and h of 1 or more, got {value!r}.")
    return x, y, width, height


def _scale(value: str | float | Sequence[float]) -> float | tuple[float, float]:
    parts: Any = value.lower().replace("×", "x").split("x") if isinstance(value, str) else value
    try:
        factors = [float(part) for part in parts] if isinstance(parts, list | tuple) else [float(parts)]
    except (ValueError, TypeError):
        factors = []
    factors = [] if isinstance(value, bool) else factors
    # An array of one number in run.toml is none of both.
    is_scale = len(factors) == (2 if isinstance(value, list) else len(factors)) and 1 <= len(factors) <= 2
    if not is_scale or not all(1 <= factor <= 8 for factor in factors):
        raise ValueError(
            f"needs a number from 1 (deblurring) to 8, or two as 2x3 (horizontal, vertical), got {value!r}."
        )
    return factors[0] if len(factors) == 1 else (factors[0], factors[1])


def _size(value: str | Sequence[int]) -> tuple[int, int]:
    """Width and height in pixels; 0 is the side that follows from the other one."""
    try:
        parts = value.lower().replace("×", "x").split("x") if isinstance(value, str) else list(value)
        width, height = (0 if part == "" else int(part) for part in parts)
        if max(width, height) >= 1 and all(part == "" or int(part) >= 1 for part in parts):
            return width, height
    except (ValueError, TypeError):
        pass
    text = "needs width and height in pixels such as 1920x1080, or one of them such as 1920x or x1080"
    raise ValueError(f"{text}, got {value!r}.")


def _amount(value: object, *, kilo: int, what: str, example: str) -> int:
    """A number with K, M or G: bytes with powers of 1024 (and the unit is needed), or pixels with powers of 1000."""
    count = value
    if isinstance(value, str):
        plain = value.strip().upper()
        plain = plain.removesuffix("B").removesuffix("I") if kilo == 1024 else plain
        power = "KMG".find(plain[-1:]) + 1 if plain else 0
        try:
            number = float(plain[:-1] if power else plain) * kilo**power
        except ValueError:
            number = math.nan
        count = round(number) if math.isfinite(number) and number >= 1 else None
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"needs {what}, got {value!r}; for example {example}.")
    if kilo == 1024 and count < 2**20:
        raise ValueError(f"needs {what} with its unit, got {value!r}; for example {example}.")
    return count


def _index(value: str | int) -> int | str:
    text = str(value)
    if text == "all":
        return text
    if not text.isdecimal() or len(text) > 6:
        raise ValueError(f"needs a whole number counted from 0, or all, got {text!r}.")
    return int(text)


def _page(value: str | int) -> int | str:
    text = str(value)
    if text == "all":
        return text
    if not text.isdecimal() or len(text) > 6 or int(text) == 0:
        raise ValueError(f"needs a whole number counted from 1, or all, got {text!r}.")
    return int(text)


def _share(value: str | float) -> float | str:
    if value == "auto":
        return "auto"
    try:
        share = float(value)
    except (ValueError, TypeError):
        share = math.nan
    if isinstance(value, bool) or not 0 <= share <= 1:
        raise ValueError(f"needs auto or a number from 0 to 1, got {value!r}.")
    return share


def _pair(value: str | tuple[float, float]) -> tuple[float, float]:
    try:
        numbers = [float(part) for part in value.split(",")] if isinstance(value, str) else list(value)
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"needs one number, or along,across, got {value!r}.")
    return numbers[0], numbers[-1]


class _Range(click.ParamType):  # type: ignore[type-arg]
    """A number in a range; what is none is refused by naming the range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Convert a value, and check that it lies in the range."""
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            number = math.nan  # is in no range, but Click lets it pass; so does infinity, where there is no upper bound
        if isinstance(number, float) and not math.isfinite(number):
            self.fail(f"needs {self._range()}, got {str(value)!r}.", param, ctx)
        return number

    def _range(self) -> str:
        limits, kind = self, "a whole number" if isinstance(self, click.IntRange) else "a number"
        low, high = (None if limit is None else f"{limit:,.12g}".replace(",", "") for limit in (limits.min, limits.max))  # type: ignore[attr-defined]
        if limits.min_open:  # type: ignore[attr-defined]
            return f"{kind} above {low}{'' if high is None else f' and up to {high}'}"
        return f"{kind} {f'of {low} or more' if high is None else f'from {low} to {high}'}"


class IntRange(_Range, click.IntRange):
    """`click.IntRange` with messages that name the range."""


class FloatRange(_Range, click.FloatRange):
    """`click.FloatRange` with messages that name the range."""


class MethodChoice(ParamType):
    """A name of a registry; it is checked when the command runs, so that `--help` imports no method.

    Args:
        kind: "estimator" or "upscaler".
    """

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    @property
    def registry(self) -> "Registry[Any]":
        """The registry of the methods."""
        from blindsr.registry import ESTIMATORS, UPSCALERS

        return ESTIMATORS if self.kind == "estimator" else UPSCALERS

    def rows(self) -> list[tuple[str, str]]:
        """Names and descriptions for `--help`; methods of other packages are not imported for it."""
        elsewhere, registry = "Of another package; `blindsr methods` describes it.", self.registry
        return [(n, elsewhere if registry.is_foreign(n) else registry.describe(n)) for n in registry.names()]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The names, as choices are shown."""
        return f"[{'|'.join(self.registry.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Check a name; that of a checkpoint may be followed by its file."""
        names = self.registry.names()
        if value not in names and not (self.kind == "upscaler" and str(value).startswith("checkpoint:")):
            self.fail(f"{value!r} is not one of {', '.join(map(repr, names))}.", param, ctx)
        return str(value)


PHOTO, OUTPUT = _FileType(), _OutputType()
REGION, SCALE, SIZE = _Parsed("x,y,w,h", _region), _Parsed("n|nxm", _scale), _Parsed("wxh|wx|xh", _size)
INDEX, PAGE, PAIR = _Parsed("n|all", _index), _Parsed("n|all", _page), _Parsed("value|along,across", _pair)
SHARE, FILE_OR_NAME = _Parsed("auto|0-1", _share), _Parsed("file|name", _no_address)
MEMORY = _Parsed("n[M|G]B", partial(_amount, kilo=1024, what="an amount of memory", example="4GB"))
FILE_SIZE = _Parsed("n[M|G]B", partial(_amount, kilo=1024, what="a size", example="256MB"))
PIXELS = _Parsed("n[M|G]", partial(_amount, kilo=1000, what="a number of pixels", example="500M"))
