"""One image in a page: the slider, the figures of each method, the zoomed crop, the kernels."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from blindsr.report.kernel_panel import kernel_cards, transfer_curves
from blindsr.report.model import Entry, View
from blindsr.report.pictures import choose_crops, data_uri, shrunk

__all__ = ["anchor", "comparison"]

_Crop = tuple[int, int, int]  # top, left, side


def anchor(name: str) -> str:
    """An image's name as the identity of an element."""
    return "image-" + re.sub(r"[^A-Za-z0-9_-]", "-", name)


def comparison(entry: Entry, colours: Mapping[str, int], *, reference: str | None = None) -> str:
    """HTML of one image.

    Args:
        entry: The image.
        colours: Number of the colour of each method.
        reference: Method whose kernel gives the axes of the transfer curves.
    """
    crops = choose_crops([view.pixels for view in entry.views], entry.crops)
    chips = "".join(f"<li><b>{escape(k)}</b> {escape(v)}</li>" for k, v in entry.facts.items())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in entry.notes)
    return (
        f'<article class="card" id="{anchor(entry.name)}"><h2>{escape(entry.heading or entry.name)}</h2>'
        f"{f'<ul class=chips>{chips}</ul>' if chips else ''}"
        f"{_pictures(entry, crops, colours)}{_zoomed(entry, crops, colours)}"
        f"{transfer_curves(entry.views, colours, reference)}{notes}</article>"
    )


def _pictures(entry: Entry, crops: Sequence[_Crop], colours: Mapping[str, int]) -> str:
    slider = _slider(entry, crops)
    if len(entry.views) == 2:
        return slider  # nothing to choose
    beside = _methods(entry, colours) + kernel_cards(entry.views, colours)
    return f'<div class="pair"><div>{slider}</div><div class="beside">{beside}</div></div>'


def _slider(entry: Entry, crops: Sequence[_Crop]) -> str:
    height, width = entry.views[0].pixels.shape[:2]
    pictures = "".join(
        f'<img class="{_sides(view, entry)}" data-method="{escape(view.method)}" alt="{escape(entry.name)}: '
        f'{escape(view.label)}" decoding="async" src="{data_uri(shrunk(view.pixels), "webp")}">'
        for view in entry.views
    )
    labels = {view.method: view.label for view in entry.views}
    outlines = "".join(
        f'<i class="where" style="left:{100 * left / width:.3f}%;top:{100 * top / height:.3f}%;'
        f'width:{100 * side / width:.3f}%;height:{100 * side / height:.3f}%"></i>'
        for top, left, side in crops
    )
    return (
        f'<div class="slider" style="aspect-ratio:{width}/{height};max-width:{84 * width / height:.2f}vh">{pictures}'
        f'{outlines}<i class="divider"><b></b></i>'
        f'<span class="tag tag-left">{escape(labels[entry.left])}</span>'
        f'<span class="tag tag-right">{escape(labels[entry.right])}</span>'
        f'<input type="range" min="0" max="100" step="0.1" value="50" '
        f'aria-label="Divider between the two pictures of {escape(entry.name)}"></div>'
    )


def _sides(view: View, entry: Entry) -> str:
    sides = [side for side, method in (("left", entry.left), ("right", entry.right)) if view.method == method]
    return " ".join(sides)


def _methods(entry: Entry, colours: Mapping[str, int]) -> str:
    headings = list(dict.fromkeys(key for view in entry.views for key in view.figures))
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    rows = "".join(_method_row(view, entry, headings, colours[view.method]) for view in entry.views)
    return (
        '<div class="scroll"><table class="methods"><thead><tr><th class="side" title="left">left</th>'
        f'<th class="side" title="right">right</th><th class="name">picture</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _method_row(view: View, entry: Entry, headings: Sequence[str], colour: int) -> str:
    group = anchor(entry.name)
    radios = "".join(
        f'<td class="side"><input type="radio" name="{group}-{side}" value="{escape(view.method)}" data-side="{side}" '
        f'data-label="{escape(view.label)}" aria-label="{escape(view.label)} on the {side}"'
        f"{' checked' if view.method == getattr(entry, side) else ''}></td>"
        for side in ("left", "right")
    )
    cells = "".join(f"<td>{escape(view.figures.get(heading, ''))}</td>" for heading in headings)
    return (
        f'<tr class="c{colour}">{radios}<td class="name"><span class="dot"></span>{escape(view.label)}</td>{cells}</tr>'
    )


def _zoomed(entry: Entry, crops: Sequence[_Crop], colours: Mapping[str, int]) -> str:
    rows = "".join(
        f'<div class="crops{" two" if len(entry.views) == 2 else ""}">'
        f"{''.join(_crop_figure(view, crop, colours[view.method]) for view in entry.views)}</div>"
        for crop in crops
    )
    after = ""
    if len(entry.views) == 2:
        rows, after = f'<div class="rows">{rows}</div>', kernel_cards(entry.views, colours)
    side = crops[0][2]
    places = " and ".join(f"x {left}, y {top}" for top, left, _ in crops)
    return (
        f'<h3>Where they differ most</h3><p class="small">{side}×{side} px at {places}, pixel by pixel; '
        f"outlined in the picture above.</p>{rows}{after}"
    )


def _crop_figure(view: View, crop: _Crop, colour: int) -> str:
    top, left, side = crop
    return (
        f'<figure class="c{colour}"><img src="{data_uri(view.pixels[top : top + side, left : left + side], "png")}" '
        f'alt="{escape(view.label)}, zoomed"><figcaption><span class="dot"></span>{escape(view.label)}</figcaption>'
        "</figure>"
    )
