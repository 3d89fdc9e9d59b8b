"""What a command says at its end: the result on stdout, a summary for people on stderr."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import click

from blindsr.cli._options import Common
from blindsr.cli._progress import RichListener
from blindsr.kernels import Kernel
from blindsr.kernels.halves import halves_of
from blindsr.pipelines.photo import PhotoResult
from blindsr.pipelines.result import CONSISTENCY_MEANING

__all__ = ["kernel_in_words", "show", "summary"]


def kernel_in_words(kernel: Kernel) -> str:
    """A kernel in a sentence: widths in pixels of the result."""
    long, short = kernel.sigmas
    size = f"{kernel.size}×{kernel.size} for ×{kernel.scale}"
    if isinstance(replaced := kernel.provenance.get("in_place_of"), Mapping):
        return f"bicubic, in place of the {replaced.get('made_by', 'other')} estimate ({size})"
    if kernel.provenance.get("made_by") in ("bicubic", "box"):
        # Bicubic's negative taps make its second moment zero: a σ would mislead.
        return f"{kernel.provenance['made_by']} ({size})"
    if "disc_radius_lr" in kernel.provenance:
        width = 2 * kernel.scale * float(str(kernel.provenance["disc_radius_lr"]))
        return f"a disc of defocus, {width:.1f} px wide ({size})"
    if kernel.provenance.get("made_by") == "l0":
        return f"of free form, σ {long:.2f} px along {kernel.angle:.0f}°, {short:.2f} px across ({size})"
    if long - short < 0.05 * long:
        return f"σ {long:.2f} px in all directions ({size})"
    return f"σ {long:.2f} px along {kernel.angle:.0f}°, {short:.2f} px across ({size})"


def show(result: PhotoResult, common: Common, listener: RichListener) -> None:
    """Print the path or the JSON record on stdout, and the summary on stderr."""
    outputs = result.outputs
    main = outputs.kernel if outputs.image is None else outputs.image
    papers = [path.name for path in (outputs.kernel, outputs.picture, outputs.record) if path != main]
    summary(result, listener, files=f"{main}, and beside it {', '.join(papers)}")
    # Bytes: the name of a file need not be text.
    click.echo(_as_json(result).encode("utf-8", "backslashreplace") if common.as_json else os.fsencode(main))


def summary(result: PhotoResult, listener: RichListener, *, files: str) -> None:
    """Say what came out, in some lines on stderr; `files` is where it went."""
    for note in result.notes:
        listener.note(note)
    origin = "" if "in_place_of" in result.kernel.provenance else f"{_origin(result)}, "
    listener.line(f"kernel: {origin}{kernel_in_words(result.kernel)}")
    if (halves := halves_of(result.kernel)) is not None:
        listener.line(f"confidence: {halves}")
    if result.upscaled is not None:
        figure = result.upscaled.consistency
        listener.line(f"consistency: {figure:.1f} dB. {CONSISTENCY_MEANING}")
        height, width = result.upscaled.image.shape[-2:]
        listener.line(f"done: {width}×{height} px in {result.seconds:.1f} s")
    else:
        listener.line(f"done: in {result.seconds:.1f} s")
    listener.line(f"files: {files}")


def _origin(result: PhotoResult) -> str:
    if result.upscaled is not None and result.upscaled.estimate is None:
        return "given"
    estimate = result.record["estimate"]
    return f"estimated by {estimate['method']}" if isinstance(estimate, dict) else "estimated"


def _as_json(result: PhotoResult) -> str:
    """The record in one line, with paths for names and without the curves, which are in the file."""
    folder: Path = result.outputs.kernel.parent
    files = {role: str(folder / name) for role, name in result.outputs.names().items()}
    record = {key: value for key, value in result.record.items() if key != "history"}
    return json.dumps({**record, "files": files}, ensure_ascii=False, allow_nan=False)
