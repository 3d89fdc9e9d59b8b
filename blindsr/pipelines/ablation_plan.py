"""What an ablation runs: images, methods, seeds, and the key that names each cell by its content."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from blindsr import __version__
from blindsr.errors import ConfigError, ImageError
from blindsr.pipelines.folders import images_in, kernels_in, matched, stems
from blindsr.pipelines.record import file_digest, plain
from blindsr.pipelines.settings import Settings

__all__ = [
    "BICUBIC",
    "INTERPOLATION",
    "TRUE",
    "AblationPlan",
    "Cell",
    "DatasetImage",
    "describe_plan",
    "read_dataset",
    "source_digest",
]

INTERPOLATION = "interpolation"  # bicubic enlargement, no network: the floor
BICUBIC = "bicubic"  # SR that takes the image for a bicubic one: what a blind method is for
TRUE = "true"  # SR with the kernel that made the image: the ceiling

# What decides a result. A change in the pages and tables around it must not throw hours of results away.
_ROOMS = (
    "ops",
    "kernels",
    "kernelgan",
    "spectral",
    "zssr",
    "metrics.py",
    *(f"pipelines/{name}.py" for name in ("blind", "known", "ablation_cell", "evaluate", "alignment")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetImage:
    """One image of a measuring set."""

    name: str
    hr: Path
    lr: Path
    kernel: Path | None  # None where the truth is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run: an image, a method, a seed."""

    image: DatasetImage
    method: str
    seed: int
    settings: Settings

    def key(self) -> str:
        """Twenty hexadecimal digits that name everything the result depends on."""
        content: dict[str, object] = {
            "lr": file_digest(self.image.lr),
            "hr": file_digest(self.image.hr),
            "kernel": None if self.image.kernel is None else file_digest(self.image.kernel),
            "method": self.method,
            "seed": self.seed,
            "settings": plain(_by_content(self.settings.as_dict())),
            "version": __version__,
            "source": source_digest(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _by_content(value: object) -> object:
    """Settings with digests for files: weights that were trained again under the same name are other weights."""
    if isinstance(value, Mapping):
        return {key: _by_content(item) for key, item in value.items()}
    return file_digest(value) if isinstance(value, Path) and value.is_file() else value


@dataclass(frozen=True, kw_only=True)
class AblationPlan:
    """An ablation.

    Args:
        images: The set.
        estimators: Estimators by the names of `Settings.estimator`.
        settings: For every run; scale as of the set.
        seeds: Of everything random; each seed runs everything again.
        device: "auto", "cpu", "cuda", …
    """

    images: tuple[DatasetImage, ...]
    estimators: tuple[str, ...] = ("spectral", "kernelgan")
    settings: Settings = field(default_factory=Settings)
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check that there is something to run."""
        if not self.images:
            raise ConfigError("an ablation needs an image or more, got none.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"an ablation needs distinct seeds, one or more, got {list(self.seeds)}.")
        if self.settings.scale != self.settings.network_scale:
            raise ConfigError(f"an ablation runs at a whole scale, got {self.settings.scale:g}.")
        for name in self.estimators:
            replace(self.settings, estimator=name)  # type: ignore[arg-type]  # refuses an unknown name

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of the tables: floor, estimates, ceiling."""
        last = (TRUE,) if any(image.kernel is not None for image in self.images) else ()
        return (INTERPOLATION, BICUBIC, *self.estimators, *last)

    def cells(self) -> Iterator[Cell]:
        """Every run, image by image, so that an interrupted ablation has whole rows."""
        for image in self.images:
            for seed in self.seeds:
                for method in self.methods:
                    if method == TRUE and image.kernel is None:
                        continue
                    if method == INTERPOLATION and seed != self.seeds[0]:
                        continue  # nothing in it is random
                    yield Cell(image=image, method=method, seed=seed, settings=self._settings(method, seed))

    def _settings(self, method: str, seed: int) -> Settings:
        estimator = method if method in self.estimators else self.settings.estimator
        return replace(self.settings, seed=seed, estimator=estimator)  # type: ignore[arg-type]


def read_dataset(folder: Path, *, names: tuple[str, ...] = (), limit: int | None = None) -> tuple[DatasetImage, ...]:
    """Find the images of a set with folders hr/, lr/ and, where the truth is known, kernel/.

    Args:
        folder: As `blindsr degrade` makes it.
        names: Only these; () is all.
        limit: At most so many, in the order of their names.

    Raises:
        ImageError: A folder is missing, an image has no LR image, or a name is not there.
    """
    for part in ("hr", "lr"):
        if not (folder / part).is_dir():
            raise ImageError(f"a set has folders hr/, lr/ and kernel/, {folder} lacks {part}/; make one with degrade.")
    hr = stems(images_in([folder / "hr"]))
    lr = matched(hr, images_in([folder / "lr"]))
    kernels = matched(hr, kernels_in(folder / "kernel")) if (folder / "kernel").is_dir() else {}
    missing = [name for name in hr if name not in lr] + [name for name in names if name not in hr]
    if missing:
        raise ImageError(f"{folder} has no LR image for {', '.join(missing)}; leave it out, or make it.")
    chosen = [name for name in hr if not names or name in names][:limit]
    return tuple(DatasetImage(name=n, hr=hr[n], lr=lr[n], kernel=kernels.get(n)) for n in chosen)


@cache
def source_digest() -> str:
    """Twelve hexadecimal digits that name the code and the weights which decide a result."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for name, content in sorted(_contents(files("blindsr").joinpath(room), room)):
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:12]


def _contents(place: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    if place.is_file():
        yield name, place.read_bytes()
    elif not name.endswith("__pycache__"):
        for part in place.iterdir():
            yield from _contents(part, f"{name}/{part.name}")


def describe_plan(plan: AblationPlan) -> Mapping[str, object]:
    """What ablation.json says of the plan."""
    return {
        "scale": plan.settings.network_scale,
        "images": [image.name for image in plan.images],
        "methods": list(plan.methods),
        "estimators": list(plan.estimators),
        "seeds": list(plan.seeds),
        "settings": plain(plan.settings.as_dict()),
        "device": plan.device,
        "source": source_digest(),
    }
