"""The page around a report: one file, everything inside."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files

__all__ = ["page"]


def page(*, title: str, eyebrow: str, lead: str, body: Iterable[str], details: Mapping[str, object]) -> str:
    """Put a page together.

    Args:
        title: Plain text.
        eyebrow: A line above it, plain text.
        lead: The finding in words, plain text.
        body: HTML.
        details: JSON-able values by heading, folded away at the end.

    Returns:
        HTML that needs no other file.
    """
    assets = files("blindsr.report").joinpath("assets")
    style = assets.joinpath("report.css").read_text(encoding="utf-8")
    script = assets.joinpath("report.js").read_text(encoding="utf-8")
    folded = "".join(
        f"<details><summary>{escape(heading)}</summary><pre>{escape(_pretty(value))}</pre></details>"
        for heading, value in details.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<header><button class="theme" type="button" aria-label="Light or dark">◐</button>'
        f'<p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>'
        f"<main>{''.join(body)}</main><footer>{folded}</footer><script>{script}</script></body></html>\n"
    )


def _pretty(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
