"""Tables: for people with rich, for programs as CSV."""

import csv
import io
import math
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

__all__ = ["csv_text", "echo_csv", "print_table"]

Cell = str | float | int | None


def _in_words(value: Cell, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.{digits}f}".replace("inf", "∞") if isinstance(value, float) else str(value)


def print_table(
    title: str, columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[Cell]], footer: Sequence[Cell] | None = None
) -> None:
    """Print a table on stdout.

    Args:
        title: The line above.
        columns: Headings, and the decimals of floats below them.
        rows: Cells; the first of each row is its name.
        footer: A last row, set apart.
    """
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for number, (heading, _) in enumerate(columns):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_in_words(v, d) for v, (_, d) in zip(row, columns, strict=True)))
    if footer is not None:
        table.add_section()
        table.add_row(*(_in_words(v, d) for v, (_, d) in zip(footer, columns, strict=True)), style="bold")
    console = Console(highlight=False)
    if not console.is_terminal:
        # Into a file or a pipe the table goes whole: it must not be cut at the 80 columns of no terminal.
        console = Console(highlight=False, width=200)
    console.print(table)


def csv_text(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Comma-separated values with a heading; None is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([["" if v is None else v for v in row] for row in rows])
    return buffer.getvalue()


def echo_csv(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print comma-separated values on stdout."""
    click.echo(csv_text(headings, rows), nl=False)
