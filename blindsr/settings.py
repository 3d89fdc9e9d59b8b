"""The settings of a run, and the named presets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from blindsr.errors import ConfigError
from blindsr.registry import ESTIMATORS, UPSCALERS, Registry

__all__ = [
    "DIALS", "KERNEL_WIDTHS", "PRESETS", "RUN_SCALES", "Dial", "Region", "Settings", "as_settings", "is_number",
    "preset", "preset_name",
]  # fmt: skip

MAX_SCALE = 8
# Whole-number factors that are run: those of the networks, and the two-stage factors beyond. A real factor is run at
# the next larger one and resized.
RUN_SCALES = (2, 3, 4, 6, 8)
KERNEL_WIDTHS = (0.25, 4)
Dial = float | Literal["auto"]
#: Settings by which a user changes a result and not what is measured (docs/dials.md).
DIALS = ("kernel_width", "strength", "denoise", "halo")
PRESETS = ("fast", "default", "best", "paper")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A rectangle of the image in LR pixels: left edge, top edge, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that decides a result, apart from the image and a known kernel.

    Args:
        scale: Output over input, from 1, which deblurs, to 8; of two factors, the larger one.
        factors: Horizontal and vertical factor, where they differ.
        size: Width and height of the output; 0 is a side that follows from the other one and the image's shape.
            `for_image` derives the factors from it.
        estimator: Name of the kernel estimator (`blindsr.registry.ESTIMATORS`).
        upscaler: Name of the upscaler (`blindsr.registry.UPSCALERS`); "checkpoint:FILE" is the upscaler `checkpoint`
            with its setting `file`.
        configs: Settings of methods by their names; a method that is missing has its defaults. Its seed is `seed`.
        region: Rectangle from which the kernel is estimated; None is the whole image.
        varying: Estimate kernels that vary over the photograph, where they measurably do.
        align_colors: Move red and blue onto green, where a lens or a scanner has displaced them.
        noise_sigma: Standard deviation of the photograph's noise, [0, 1] units; None measures it.
        kernel_error: Standard deviation of the error of the kernel's transfer function; None is that of the estimate,
            and 0 for a known kernel.
        kernel_width: Factor of the width of the kernel that is used, 0.25 to 4, whether it is estimated or known.
        strength: Share of the result, 0 to 1; the rest is bicubic interpolation, or the photograph itself at scale 1.
            "auto" is 1 where the result is probably right, and less where a comparison with interpolation shows that it
            is not (`blindsr.pipelines.strength`).
        denoise: Share of the noise that is removed, 0 to 1; "auto" is 1. Noise that is kept is that of the photograph,
            interpolated.
        halo: Share of the overshoot at edges that is left, 0 to 1; "auto" is 1. At 0 no pixel is outside of the range
            of the photograph around it.
        seed: Random seed.

    Raises:
        ConfigError: A value is out of its bounds, or a method is unknown.
    """

    scale: float = 2.0
    factors: tuple[float, float] | None = None
    size: tuple[int, int] | None = None
    estimator: str = "auto"
    upscaler: str = "pretrained"
    configs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    region: Region | None = None
    varying: bool = False
    align_colors: bool = True
    noise_sigma: float | None = None
    kernel_error: float | None = None
    kernel_width: float = 1.0
    strength: Dial = "auto"
    denoise: Dial = "auto"
    halo: Dial = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not is_number(self.scale) and self.factors is None:
            raise ConfigError(f"scale must be a number, got {self.scale!r}.")
        if self.factors is not None and not _are_two(self.factors):
            raise ConfigError(f"factors must be two numbers, horizontal and vertical, got {self.factors!r}.")
        if self.region is not None and not isinstance(self.region, Region):
            raise ConfigError(f"region must be a Region(x=, y=, width=, height=), got {self.region!r}.")
        if self.factors is not None:
            if not all(math.isfinite(factor) and 1 <= factor <= MAX_SCALE for factor in self.factors):
                given = "x".join(f"{factor:g}" for factor in self.factors)
                raise ConfigError(f"both scales must be 1 or more and at most {MAX_SCALE}, got {given}.")
            object.__setattr__(self, "scale", float(max(self.factors)))
        if isinstance(self.seed, bool) or not (isinstance(self.seed, int) and 0 <= self.seed < 2**32):
            raise ConfigError(f"seed must be a whole number from 0 to {2**32 - 1}, got {self.seed!r}.")
        if self.size is not None and not (_are_two(self.size) and all(float(side).is_integer() for side in self.size)):
            raise ConfigError(f"size must be two whole numbers, width and height, got {self.size!r}.")
        if self.size is not None and (min(self.size) < 0 or max(self.size) < 1):
            raise ConfigError(f"a size must be 1 px or more in each direction, got {self.size[0]}x{self.size[1]}.")
        if not (math.isfinite(self.scale) and 1 <= self.scale <= MAX_SCALE):
            raise ConfigError(f"scale must be from 1, which deblurs, to {MAX_SCALE}, got {self.scale:g}.")
        for name, value in (("noise_sigma", self.noise_sigma), ("kernel_error", self.kernel_error)):
            if value is not None and not (is_number(value) and math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be a number of 0 or more, or left out, got {value!r}.")
        for name, switch in (("varying", self.varying), ("align_colors", self.align_colors)):
            if not isinstance(switch, bool):
                raise ConfigError(f"{name} must be True or False, got {switch!r}.")
        if self.varying and self.region is not None:
            raise ConfigError(
                "a kernel that varies is estimated from the whole image; leave out the region, or varying."
            )
        low, high = KERNEL_WIDTHS
        if not _is_within(self.kernel_width, low, high):
            raise ConfigError(f"kernel_width must be a factor from {low} to {high}, got {self.kernel_width!r}.")
        for name, share in (("strength", self.strength), ("denoise", self.denoise), ("halo", self.halo)):
            if not _is_within(share, 0, 1) and share != "auto":
                raise ConfigError(f"{name} must be from 0 to 1, or 'auto', got {share!r}.")
        method, separator, file = self.upscaler.partition(":")
        if separator and method == "checkpoint":
            config = self.configs.get(method) or UPSCALERS.get(method).config_type()
            object.__setattr__(self, "upscaler", method)
            object.__setattr__(self, "configs", {**self.configs, method: replace(config, file=Path(file))})
        ESTIMATORS.check(self.estimator)
        UPSCALERS.check(self.upscaler)
        object.__setattr__(self, "configs", dict(self.configs))

    @property
    def run_scale(self) -> int:
        """The whole-number factor that is run, and that the kernel is for: the next one of `RUN_SCALES`."""
        return next(scale for scale in RUN_SCALES if scale >= self.scale - 1e-9)

    @property
    def kernel_scale(self) -> int:
        """The scale that a kernel without one of its own is for: `run_scale`, but 1 for deblurring."""
        return 1 if self.scale == 1 else self.run_scale

    @property
    def without_dials(self) -> "Settings":
        """These settings with all dials at their defaults: what is measured does not depend on them."""
        defaults: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in DIALS}
        return replace(self, **defaults)

    @property
    def label(self) -> str:
        """The enlargement in a file's name: "x2", "x2.5", "x2x3", "1920x1080" or "1920x"."""
        if self.size is not None:
            return f"{self.size[0] or ''}x{self.size[1] or ''}"
        if self.factors is not None:
            return "x" + "x".join(f"{factor:g}" for factor in self.factors)
        return f"x{self.scale:g}"

    def shape_warnings(self, height: int, width: int) -> tuple[str, ...]:
        """A warning, if the output has another aspect ratio than an image of this size."""
        rows, columns = self.output_size(height, width)
        # A side that is rounded to whole pixels is no distortion.
        fitting = columns * height / width
        if self.size is None or abs(fitting - rows) <= 1 or abs(rows * width / height - columns) <= 1:
            return ()
        return (
            f"the size {columns}×{rows} px has another aspect ratio than the photograph of {width}×{height} px, "
            f"which is stretched; a width of {columns} px alone keeps it ({columns}×{round(fitting)} px).",
        )

    def create_estimator(self) -> Any:
        """The kernel estimator with its settings."""
        return ESTIMATORS.create(self.estimator, self._config_of(ESTIMATORS, self.estimator), seed=self.seed)

    def create_upscaler(self) -> Any:
        """The upscaler with its settings."""
        return UPSCALERS.create(self.upscaler, self._config_of(UPSCALERS, self.upscaler), seed=self.seed)

    def _config_of(self, registry: Registry[Any], name: str) -> Any:
        """The settings of a method; those of a method of this name in the other registry are none of them."""
        config = self.configs.get(name)
        others = UPSCALERS if registry is ESTIMATORS else ESTIMATORS
        is_other = name in others.names() and isinstance(config, others.get(name).config_type)
        return None if is_other and not isinstance(config, registry.get(name).config_type) else config

    def with_config(self, name: str, **values: Any) -> "Settings":
        """These settings with some values of one method changed.

        Args:
            name: Name of the method.
            **values: Fields of its settings.

        Raises:
            ConfigError: There is no such method or field, or a value is out of its bounds.
        """
        registry = ESTIMATORS if name in ESTIMATORS.names() else UPSCALERS
        config = self.configs.get(name, registry.get(name).config_type())
        try:
            changed = replace(config, **values)
        except TypeError as error:
            raise ConfigError(f"the settings of {name}: {error}.") from error
        return replace(self, configs={**self.configs, name: changed})

    def for_image(self, height: int, width: int) -> "Settings":
        """The settings with the factors that lead from an image of this size to `size`; unchanged without `size`.

        Raises:
            ConfigError: The size is smaller than the image along an axis, not larger along any, or too large.
        """
        if self.size is None:
            return self
        horizontal, vertical = self.size[0] / width, self.size[1] / height
        factors = (horizontal or vertical, vertical or horizontal)
        if min(factors) < 1:
            raise ConfigError(
                f"the size must enlarge the photograph of {width}×{height} px, by {MAX_SCALE} at most, or keep its "
                f"size, got {self.label}; use an ordinary resizing program to make photographs smaller."
            )
        if max(factors) > MAX_SCALE:
            raise ConfigError(
                f"the size must enlarge the photograph of {width}×{height} px by {MAX_SCALE} at most, got "
                f"{self.label}; give up to {MAX_SCALE * width}×{MAX_SCALE * height} px."
            )
        return replace(self, factors=factors)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an image of this size."""
        if self.size is not None:
            columns, rows = self.size
            return rows or max(1, round(height * columns / width)), columns or max(1, round(width * rows / height))
        horizontal, vertical = (self.scale, self.scale) if self.factors is None else self.factors
        return round(height * vertical), round(width * horizontal)

    def as_dict(self) -> dict[str, object]:
        """A copy made of plain values: the methods that are run with all their settings, not those that are not."""
        values = asdict(replace(self, configs={}))
        values["configs"] = {name: asdict(config) for name, config in self.used_configs().items()}
        return values

    def used_configs(self) -> dict[str, Any]:
        """The complete settings of the two methods that are run, by name."""
        return {self.estimator: self.create_estimator().config, self.upscaler: self.create_upscaler().config}


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)  # numbers of NumPy are real numbers, too


def _is_within(value: Any, low: float, high: float) -> bool:
    """Whether a value is a number within bounds."""
    return is_number(value) and low <= float(value) <= high


def _are_two(values: Any) -> bool:
    """Whether a value is a pair of numbers."""
    return isinstance(values, list | tuple) and len(values) == 2 and all(map(is_number, values))


def as_settings(settings: Settings | str | None) -> Settings:
    """Settings as a run takes them: given ones, those of a preset by its name, or the default ones.

    Raises:
        ConfigError: There is no preset of this name, or it is none of these.
    """
    if isinstance(settings, str):
        return preset(settings)
    if settings is not None and not isinstance(settings, Settings):
        raise ConfigError(
            f"settings must be blindsr.Settings or the name of a preset ({', '.join(PRESETS)}), got "
            f"{type(settings).__name__}."
        )
    return Settings() if settings is None else settings


def preset_name(settings: Settings) -> str:
    """The name of the preset that has these settings at any scale; "custom" if none has."""
    presets = [("default", Settings()), *((name, preset(name)) for name in PRESETS)]
    for name, one in presets:
        if replace(one, scale=settings.scale, factors=settings.factors, size=settings.size) == settings:
            return name
    return "custom"


def preset(name: str, *, init: str | Path = "pretrained") -> Settings:
    """Named settings, from fast to thorough, and the published pipeline.

    Args:
        name: "fast" (one forward pass), "default" (60 steps on the image where they help, and the mean of four views),
            "best" (300 steps, eight views), or "paper" (KernelGAN and ZSSR as published).
        init: Initial weights: "pretrained" (the bundled network), "leaves" (the bundled one that has seen no
            photograph), "random", or the path of a checkpoint of `blindsr train`. The preset "paper" always begins
            with random weights.

    Raises:
        ConfigError: There is no preset of this name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}.")
    if name == "paper":
        from blindsr.zssr.config import ZSSRConfig

        return Settings(estimator="kernelgan", upscaler="zssr", configs={"zssr": ZSSRConfig.named("kernelgan")})
    from blindsr.upscalers.pretrained.config import PretrainedConfig

    default = PretrainedConfig()
    config = {
        "fast": replace(default, steps=0, ensemble=1),
        "default": default,
        "best": replace(default, steps=300, learning_rate=4e-4, ensemble=8, ensemble_pixels=None),
    }[name]
    if init == "random":
        steps = {"fast": 100, "default": 300, "best": 1000}[name]
        config = replace(config, random_weights=True, steps=steps, learning_rate=1e-3)
    elif init != "pretrained":
        config = replace(config, weights=Path(init))
    return Settings(configs={"pretrained": config})
