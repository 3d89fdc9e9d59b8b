"""Where each result of a batch goes: a template for its name, the tree of the inputs, and no two to one place."""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blindsr.errors import ConfigError, OutputError
from blindsr.pipelines.batch.inputs import Found

__all__ = ["DEFAULT_TEMPLATE", "FIELDS", "SUFFIXES", "Naming", "check_collisions"]

DEFAULT_TEMPLATE = "{stem}_blindsr_{label}"
FIELDS = ("stem", "suffix", "folder", "label", "scale", "preset")
# Of files that blindsr writes. A template that ends in none of them leaves the choice to the photograph.
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How results are named.

    Args:
        output: The folder under which the tree of the inputs is mirrored; None puts each result beside its photograph.
        template: File name with fields in braces: {stem} and {suffix} (without its dot) of the photograph, {folder}
            that it lies in, {label} ("x2"), {scale} ("2"), {preset}. A suffix at its end chooses the format.
        label: The enlargement, as in the name of a single result: "x2", "x2x3", "1920x1080".
        preset: Name of the preset.
        suffix: Of every result, with its dot; None lets the template or the photograph decide.

    Raises:
        ConfigError: The template has an unknown field, a folder in it, or would give every result one name.
    """

    output: Path | None = None
    template: str = DEFAULT_TEMPLATE
    label: str = "x2"
    preset: str = "default"
    suffix: str | None = None

    def __post_init__(self) -> None:
        """Check the template, so that no name fails after hours."""
        known = f"known are {', '.join(f'{{{name}}}' for name in FIELDS)}"
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise ConfigError(f"the template of names {self.template!r} cannot be read ({error}); {known}.") from error
        # Plain names only: "{stem.__class__}" and "{scale:>9999999999}" are no file names.
        for _, name, format_, conversion in parts:
            if name is not None and (name not in FIELDS or format_ or conversion):
                raise ConfigError(f"the template of names {self.template!r} has an unknown field {{{name}}}; {known}.")
        if "stem" not in {name for _, name, _, _ in parts}:
            raise ConfigError(
                f"the template of names {self.template!r} lacks {{stem}}: all results would get one name."
            )
        if "/" in self.template or "\\" in self.template:
            raise ConfigError(f"the template {self.template!r} names files, not folders; folders follow the inputs.")

    def place(self, photo: Found) -> Path:
        """The result of a photograph; without a suffix if the photograph's samples decide on it."""
        folder = photo.path.parent if self.output is None else self.output / photo.folder
        fields: Mapping[str, str] = {
            "stem": photo.path.stem,
            "suffix": photo.path.suffix.removeprefix("."),
            "label": self.label,
            "scale": self.label.removeprefix("x"),
            "preset": self.preset,
            "folder": photo.path.absolute().parent.name,
        }
        name = self.template.format_map(fields)
        if self.suffix is not None and Path(name).suffix.lower() != self.suffix:
            name += self.suffix
        return folder / name

    @property
    def decides_suffix(self) -> bool:
        """Whether `place` gives whole names."""
        return self.suffix is not None or Path(self.template).suffix.lower() in SUFFIXES


def check_collisions(targets: Iterable[tuple[Path, Path]], *, whole: bool) -> None:
    """Refuse a plan in which two photographs would have one result, or one record.

    Args:
        targets: Photographs and the places of their results.
        whole: The places have their suffixes.

    Raises:
        OutputError: Names the first few of them.
    """
    owners: dict[Path, Path] = {}
    clashes: list[str] = []
    for photo, target in targets:
        # The kernel and the record follow the stem: a.png and a.tif would share them.
        stem = (target.with_suffix("") if whole else target).absolute()
        if stem in owners:
            clashes.append(f"{owners[stem]} and {photo} → {target}")
        owners.setdefault(stem, photo)
    if clashes:
        more = f" and {len(clashes) - 3} more" if len(clashes) > 3 else ""
        raise OutputError(
            f"two photographs would have one result: {'; '.join(clashes[:3])}{more}. Nothing was done; put "
            "{suffix} or {folder} into the names (--name), or give the folder that holds both with --recursive."
        )
