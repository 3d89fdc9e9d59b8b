"""Settings of ZSSR as published; those of the start are in `blindsr.zssr.start.config`."""

from dataclasses import dataclass
from typing import Literal

from blindsr.errors import ConfigError
from blindsr.runtime import Precision

__all__ = ["PaperZSSRConfig", "ZSSRSetting"]

ZSSRSetting = Literal["ideal", "gradual", "given", "real", "kernelgan"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperZSSRConfig:
    """ZSSR as published (Shocher, Cohen, Irani, CVPR 2018), in its five published settings.

    The defaults are the setting "given" (a known, not necessarily symmetric kernel). Values marked [P] stand in the
    paper, [C] are those that the authors' experiments used.
    """

    setting: ZSSRSetting = "given"  # a label; the class methods set the values that go with it
    layers: int = 8  # [P] §3.1
    channels: int = 64  # [P] §3.1
    learning_rate: float = 1e-3  # [P] Adam, §3.1
    min_learning_rate: float = 9e-6  # [C] training stops below it ([P]: 1e-6)
    rate_divisor: float = 10.0  # [P] §3.1
    slope_every: int = 60  # [C] steps between two looks at the slope of the reconstruction error
    slope_window: int = 256  # [C] steps that the line is fitted to
    slope_ratio: float = 1.5  # [C] divide the rate when noise > ratio × |slope|
    test_every: int = 50  # [C] steps between two measurements of the reconstruction error
    max_steps: int = 3000  # [C]
    crop: int = 128  # [P] father's crop, HR pixels, §3.1
    init_sigma: float | None = None  # N(0, σ) initialisation; None is He's, without the plateau (docs/deviations.md)
    mirror: bool = True  # [P] mirror reflections of the father, §3
    rotate: bool = False  # [P] 0°, 90°, 180°, 270°: only for kernels that a rotation leaves alone
    leave_as_is: float = 0.05  # [C] probability of a father without any scaling or shear
    no_interpolation: float = 0.45  # [C] probability of a father that is only mirrored and rotated
    min_father_scale: float = 0.5  # [C] least size of a father against the image
    father_scale_sigma: float = 0.25  # [C] spread of the father's random scale around 1, folded below 1
    shear_sigma: float = 0.1  # [C] spread of the father's random shear
    noise_sigma: float = 0.0  # [P] noise on the sons, §3.2
    gradient_weight: bool = False  # [C] weigh the loss by the father's gradient; KernelGAN's variant only
    ensemble: bool = False  # [P] median over the eight dihedral views, §3
    back_projections: tuple[int, ...] = (2,)  # one number a scale step
    # (vertical, horizontal) factors on the way to the scale, as fractions of it in log space; () is one jump.
    gradual_steps: tuple[tuple[float, float], ...] = ()
    seed: int = 0
    precision: Precision = "auto"  # bf16 where the processor has it natively
    report_every: int = 50  # steps between losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        _require(self.layers >= 2, f"zssr.layers must be 2 or more, got {self.layers}.")
        _require(self.channels >= 1, f"zssr.channels must be 1 or more, got {self.channels}.")
        _require(self.max_steps >= 1, f"zssr.max_steps must be 1 or more, got {self.max_steps}.")
        _require(
            0 < self.min_learning_rate <= self.learning_rate,
            f"zssr.min_learning_rate must be in (0, learning_rate], got {self.min_learning_rate}.",
        )
        _require(self.rate_divisor > 1, f"zssr.rate_divisor must be over 1, got {self.rate_divisor}.")
        _require(self.crop >= 16, f"zssr.crop must be 16 or more, got {self.crop}.")
        _require(
            0 <= self.leave_as_is + self.no_interpolation <= 1,
            "zssr.leave_as_is + zssr.no_interpolation must be a probability, "
            f"got {self.leave_as_is + self.no_interpolation}.",
        )
        _require(
            0 < self.min_father_scale <= 1,
            f"zssr.min_father_scale must be in (0, 1], got {self.min_father_scale}.",
        )
        _require(self.noise_sigma >= 0, f"zssr.noise_sigma must be 0 or more, got {self.noise_sigma}.")
        _require(
            len(self.back_projections) == max(1, len(self.gradual_steps)),
            f"zssr.back_projections needs one number for each of {max(1, len(self.gradual_steps))} scale steps, "
            f"got {len(self.back_projections)}.",
        )
        for name in ("slope_every", "slope_window", "test_every", "report_every"):
            _require(getattr(self, name) >= 1, f"zssr.{name} must be 1 or more, got {getattr(self, name)}.")
        _require(
            self.precision in ("auto", "fp32", "bf16"),
            f"zssr.precision must be auto, fp32 or bf16, got {self.precision!r}.",
        )

    @classmethod
    def named(cls, setting: ZSSRSetting) -> "PaperZSSRConfig":
        """One of the five published settings.

        Args:
            setting: "ideal" (bicubic kernel), "gradual" (the paper's six scale steps), "given" (a known kernel),
                "real" (a photograph with noise, unknown kernel), "kernelgan" (the variant that KernelGAN feeds).

        Raises:
            ConfigError: The name is none of these.
        """
        if setting == "ideal":
            return cls(setting=setting, rotate=True, ensemble=True, back_projections=(10,))
        if setting == "gradual":
            steps = ((1.0, 1.5), (1.5, 1.0), (1.5, 1.5), (1.5, 2.0), (2.0, 1.5), (2.0, 2.0))
            return cls(
                setting=setting,
                rotate=True,
                ensemble=True,
                back_projections=(6, 6, 8, 10, 10, 12),
                gradual_steps=steps,
            )
        if setting == "given":
            return cls(setting=setting)
        if setting == "real":
            return cls(
                setting=setting,
                noise_sigma=0.0125,
                back_projections=(0,),
                min_father_scale=0.75,
                father_scale_sigma=0.0,
                shear_sigma=0.0,
            )
        if setting == "kernelgan":
            return cls(setting=setting, mirror=False, leave_as_is=1.0, no_interpolation=0.0, gradient_weight=True)
        raise ConfigError(f"zssr setting must be ideal, gradual, given, real or kernelgan, got {setting!r}.")
