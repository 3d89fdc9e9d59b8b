"""The HTML page of a report: a single file that contains its style, script and images."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from blindsr.image_io import atomic_write_bytes

__all__ = ["Page", "html_table", "write_page"]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a report; texts are plain text."""

    title: str
    eyebrow: str  # a line above the title
    lead: str  # the main result in words
    body: Iterable[str]  # HTML
    details: Mapping[str, object]  # JSON-able values by heading, in collapsed sections at the end


def write_page(page: Page, path: Path, *, overwrite: bool = False) -> Path:
    """Write a page and return its path; OutputError if it exists or cannot be written."""
    assets = Path(__file__).parent / "assets"
    style, script = ((assets / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = ""
    for heading, value in page.details.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        sections += f"<details><summary>{escape(heading)}</summary><pre>{escape(text)}</pre></details>"
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(page.title)}</title><style>{style}</style></head><body>"
        f'<header><button class="theme" type="button" aria-label="Light or dark">◐</button>'
        f'<p class="eyebrow">{escape(page.eyebrow)}</p><h1>{escape(page.title)}</h1>'
        f'<p class="lead">{escape(page.lead)}</p></header>'
        f"<main>{''.join(page.body)}</main><footer>{sections}</footer><script>{script}</script></body></html>\n"
    )
    atomic_write_bytes(path, html.encode(), overwrite=overwrite)
    return path


def html_table(kind: str, headings: str, rows: str) -> str:
    """A table of a class of report.css from its cells."""
    table = f'<table class="{kind}"><thead><tr>{headings}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<div class="scroll">{table}</div>'
