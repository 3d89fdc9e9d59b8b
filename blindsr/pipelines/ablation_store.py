"""The folder of an ablation: results.jsonl grows by a line a cell, ablation.json says what was asked for.

A line is written after its picture and kernel are on the disk, so a line that can be read is a cell that is done; the
torn last line of a killed run is not.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindsr.errors import ConfigError, OutputError
from blindsr.image_io import atomic_write_bytes
from blindsr.pipelines.jsonlines import append_line, read_lines

__all__ = ["AblationResults", "Store"]

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AblationResults:
    """What an ablation found, as far as it went.

    Args:
        folder: Where the files that rows name are.
        plan: As in ablation.json: images, methods, seeds, settings, keys, machine, versions.
        rows: Finished cells of the plan, in its order.
        failures: Rows of cells that failed in the last run, with "error".
    """

    folder: Path
    plan: Mapping[str, Any]
    rows: tuple[Row, ...]
    failures: tuple[Row, ...] = ()

    @property
    def missing(self) -> int:
        """Cells of the plan that are not done."""
        return len(self.plan["keys"]) - len(self.rows)


class Store:
    """The files of one ablation.

    Args:
        folder: Made if it is missing.

    Raises:
        OutputError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results.jsonl"
        self.plan_file = folder / "ablation.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another place.") from error

    def rows(self) -> dict[str, Row]:
        """Every row by its key; of a cell that failed and was run again, the last one."""
        return {row["key"]: row for row in read_lines(self.results) if "key" in row}

    def finished(self, row: Row | None) -> bool:
        """Whether a row is of a cell that succeeded, and its files are still there."""
        if row is None or "error" in row:
            return False
        return all((self.folder / path).is_file() for path in row["files"].values())

    def append(self, row: Row) -> None:
        """Add a row, on the disk when this returns.

        Raises:
            OutputError: The disk refuses.
        """
        append_line(self.results, row)

    def write_plan(self, plan: Mapping[str, object]) -> None:
        """Say what was asked for."""
        text = json.dumps(plan, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        atomic_write_bytes(self.plan_file, text.encode(), overwrite=True)

    def load(self, keys: Iterable[str] | None = None) -> AblationResults:
        """The results of the plan that was asked for last.

        Raises:
            ConfigError: The folder holds no ablation.
        """
        if not self.plan_file.is_file():
            raise ConfigError(
                f"{self.folder} holds no ablation (ablation.json is missing); run `blindsr ablate` first."
            )
        try:
            plan = json.loads(self.plan_file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ConfigError(f"{self.plan_file} is damaged ({error}); run `blindsr ablate` again.") from error
        rows = self.rows()
        wanted = [rows[key] for key in (plan["keys"] if keys is None else keys) if key in rows]
        return AblationResults(
            folder=self.folder,
            plan=plan,
            rows=tuple(row for row in wanted if self.finished(row)),
            failures=tuple(row for row in wanted if "error" in row),
        )
