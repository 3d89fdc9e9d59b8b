"""Types of command-line values: files, scales, sizes, regions, amounts of memory and of pixels, kernel indices."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

__all__ = ["INDEX", "MEMORY", "OUTPUT", "PHOTO", "PIXELS", "REGION", "SCALE", "SIZE", "MethodChoice", "OutputPath"]


class _FileType(click.Path):
    """A path. Existence is not checked here: a missing, damaged or foreign file is the library's error, in one line."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Refuse addresses, of which a path would lose a slash."""
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text := str(value)):
            way = "name the file by its path" if text.lower().startswith("file:") else "download it, and name the file"
            self.fail(f"{text} is an address, and nothing is fetched over a network; {way}.", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True, slots=True)
class OutputPath:
    """Where results go.

    Args:
        path: A file or a folder.
        is_folder: It is a folder: one of this name exists, or the name was written with a slash at its end.
    """

    path: Path
    is_folder: bool = False


class _OutputType(click.ParamType[OutputPath]):
    name = "path"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> OutputPath:
        if isinstance(value, OutputPath):
            return value
        text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
        path: Path = PHOTO.convert(text, param, ctx)
        # os.path.isdir is False where pathlib raises, such as for a name that is too long.
        return OutputPath(path, text.endswith(("/", os.sep)) or os.path.isdir(path))  # noqa: PTH112


class _RegionType(click.ParamType[tuple[int, int, int, int]]):
    name = "x,y,w,h"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        parts: Sequence[object] = str(value).split(",") if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]
        try:
            x, y, width, height = (int(str(part)) for part in parts)
        except ValueError:
            self.fail(f"needs four whole numbers x,y,w,h, got {value!r}; for example 100,80,256,256.", param, ctx)
        if x < 0 or y < 0 or width < 1 or height < 1:
            self.fail(f"needs x and y of 0 or more, w and h of 1 or more, got {value!r}.", param, ctx)
        return x, y, width, height


class _ScaleType(click.ParamType["float | tuple[float, float]"]):
    name = "n|nxm"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, float]:
        try:
            if isinstance(value, str):
                factors = [float(part) for part in value.lower().replace("×", "x").split("x")]
            else:
                factors = [float(part) for part in value] if isinstance(value, list | tuple) else [float(value)]  # type: ignore[arg-type]
                if isinstance(value, list) and len(factors) == 1:
                    factors = []
        except (ValueError, TypeError):
            factors = []
        if factors in ([1], [1, 1]):
            self.fail("needs a number above 1: deblurring without enlarging (×1) is not supported.", param, ctx)
        if not 1 <= len(factors) <= 2 or not all(1 <= factor <= 8 for factor in factors) or max(factors) == 1:
            self.fail(
                f"needs a number above 1 and up to 8, or two as 2x3 (horizontal, vertical), got {value!r}.", param, ctx
            )
        return factors[0] if len(factors) == 1 else (factors[0], factors[1])


class _SizeType(click.ParamType[tuple[int, int]]):
    """Width and height in pixels; 0 is the side that follows from the other one."""

    name = "wxh|wx|xh"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        try:
            parts = value.lower().replace("×", "x").split("x") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
            width, height = (0 if part == "" else int(part) for part in parts)
            is_size = max(width, height) >= 1 and all(part == "" or int(part) >= 1 for part in parts)
        except (ValueError, TypeError):
            is_size = False
        if not is_size:
            text = "needs width and height in pixels such as 1920x1080, or one of them such as 1920x or x1080"
            self.fail(f"{text}, got {value!r}.", param, ctx)
        return width, height


class _AmountType(click.ParamType[int]):
    """A number with K, M or G: bytes with powers of 1024, or pixels with powers of 1000."""

    def __init__(self, name: str, kilo: int, what: str, example: str) -> None:
        self.name, self._kilo, self._what, self._example = name, kilo, what, example

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        count = self._count(value) if isinstance(value, str) else value
        if not isinstance(count, int) or count < 1:
            self.fail(f"needs {self._what}, got {value!r}; for example {self._example}.", param, ctx)
        if isinstance(value, str) and self._kilo == 1024 and count < 2**20:
            self.fail(f"needs {self._what} with its unit, got {value!r}; for example {self._example}.", param, ctx)
        return count

    def _count(self, text: str) -> int | None:
        plain = text.strip().upper()
        if self._kilo == 1024:
            plain = plain.removesuffix("B").removesuffix("I")
        power = "KMG".find(plain[-1:]) + 1 if plain else 0
        try:
            count = float(plain[:-1] if power else plain) * self._kilo**power
        except ValueError:
            return None
        return round(count) if math.isfinite(count) and count >= 1 else None


class _IndexType(click.ParamType[int | str]):
    name = "n|all"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        if text == "all":
            return text
        if not text.isdecimal() or len(text) > 6:
            self.fail(f"needs a whole number counted from 0, or all, got {text!r}.", param, ctx)
        return int(text)


class MethodChoice(click.ParamType[str]):
    """A name of a registry; it is checked when the command runs, so that `--help` imports no method.

    Args:
        kind: "estimator" or "upscaler".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = "name"

    def names(self) -> tuple[str, ...]:
        """The names of all registered methods."""
        from blindsr.registry import ESTIMATORS, UPSCALERS

        return (ESTIMATORS if self.kind == "estimator" else UPSCALERS).names()

    def rows(self) -> list[tuple[str, str]]:
        """Names and descriptions for `--help`; methods of other packages are not imported for it."""
        from importlib.metadata import entry_points

        from blindsr.registry import ESTIMATORS, UPSCALERS

        registry = ESTIMATORS if self.kind == "estimator" else UPSCALERS
        foreign = {point.name for point in entry_points(group=f"blindsr.{self.kind}s")}
        elsewhere = "Of another package; `blindsr methods` describes it."
        return [(name, elsewhere if name in foreign else registry.describe(name)) for name in registry.names()]

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """The names, as choices are shown."""
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401
        """Check a name; that of a checkpoint may be followed by its file."""
        if value not in self.names() and not (self.kind == "upscaler" and str(value).startswith("checkpoint:")):
            self.fail(f"{value!r} is not one of {', '.join(map(repr, self.names()))}.", param, ctx)
        return str(value)


PHOTO, OUTPUT = _FileType(), _OutputType()
REGION, SCALE, SIZE, INDEX = _RegionType(), _ScaleType(), _SizeType(), _IndexType()
MEMORY = _AmountType("n[M|G]B", 1024, "an amount of memory", "4GB")
PIXELS = _AmountType("n[M|G]", 1000, "a number of pixels", "500M")
