"""Settings of ZSSR as published: the paper's values, and its five settings by name."""

from dataclasses import dataclass
from typing import Any, Literal

from blindsr.errors import ConfigError
from blindsr.registry import check_minimum, check_setting

__all__ = ["ZSSRConfig", "ZSSRSetting"]

ZSSRSetting = Literal["ideal", "gradual", "given", "real", "kernelgan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZSSRConfig:
    """Settings of ZSSR as published (Shocher, Cohen, Irani, CVPR 2018, arXiv:1712.06087).

    The defaults are the setting "given": a known kernel, which need not be symmetric. Values marked [P] are in the
    paper, with the section; [C] are those of the authors' experiments.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    setting: ZSSRSetting = "given"  # name of the published setting; `named` sets the values that belong to it
    layers: int = 8  # convolutions [P §3.1]
    channels: int = 64  # hidden channels [P §3.1]
    learning_rate: float = 1e-3  # initial learning rate of Adam [P §3.1]
    min_learning_rate: float = 9e-6  # training stops below it [C] ([P §3.1]: 1e-6)
    rate_divisor: float = 10.0  # divisor of the learning rate [P §3.1]
    slope_every: int = 60  # steps between two fits of the slope of the reconstruction error [C]
    slope_window: int = 256  # steps that the line is fitted to [C]
    slope_ratio: float = 1.5  # the rate is divided when the slope's standard error > ratio × |slope| [C]
    test_every: int = 50  # steps between two measurements of the reconstruction error [C]
    max_steps: int = 3000  # [C]
    crop: int = 128  # side of the father's crop, px [P §3.1]
    # Standard deviation of the initial weights; None is He initialisation, without the initial plateau (deviations.md).
    init_sigma: float | None = None
    mirror: bool = True  # mirror the father [P §3]
    rotate: bool = False  # rotate the father by multiples of 90° [P §3]; only for kernels with that symmetry
    leave_as_is: float = 0.05  # probability of a father without any augmentation [C]
    no_interpolation: float = 0.45  # probability of a father that is only mirrored and rotated [C]
    min_father_scale: float = 0.5  # smallest scale of a father relative to the image [C]
    father_scale_sigma: float = 0.25  # standard deviation of the father's random scale around 1, folded below 1 [C]
    shear_sigma: float = 0.1  # standard deviation of the father's random shear [C]
    noise_sigma: float = 0.0  # standard deviation of the noise added to the sons, [0, 1] units [P §3.2]
    gradient_weight: bool = False  # weight the loss by the father's gradient [C]; only in KernelGAN's variant
    ensemble: bool = False  # median over the eight rotations and reflections of the image [P §3]
    back_projections: tuple[int, ...] = (2,)  # iterations of back-projection, one number per scale step
    # Gradual scales (§3): (vertical, horizontal) factors of the steps towards ×2; () is one step to the full scale.
    gradual_steps: tuple[tuple[float, float], ...] = ()
    seed: int = 0  # seed of the initial weights and of the pairs
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto is bfloat16 where the processor has it natively
    report_every: int = 50  # steps between two losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        counts = ("channels", "max_steps", "slope_every", "slope_window", "test_every", "report_every")
        for minimum, names in ((0, ("noise_sigma",)), (1, counts), (2, ("layers",)), (16, ("crop",))):
            check_minimum(self, "zssr", minimum, *names)
        is_valid = 0 < self.min_learning_rate <= self.learning_rate
        check_setting(self, "zssr", "min_learning_rate", is_valid, "in (0, learning_rate]")
        check_setting(self, "zssr", "rate_divisor", self.rate_divisor > 1, "over 1")
        without_warp = self.leave_as_is + self.no_interpolation
        if not 0 <= without_warp <= 1:
            raise ConfigError(f"zssr.leave_as_is + no_interpolation must be a probability, got {without_warp}.")
        check_setting(self, "zssr", "min_father_scale", 0 < self.min_father_scale <= 1, "in (0, 1]")
        steps, numbers = max(1, len(self.gradual_steps)), len(self.back_projections)
        if numbers != steps:
            raise ConfigError(
                f"zssr.back_projections must have one number for each of {steps} scale steps, got {numbers}."
            )
        check_setting(self, "zssr", "precision", self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16")

    @classmethod
    def named(cls, setting: ZSSRSetting) -> "ZSSRConfig":
        """One of the five published settings.

        Args:
            setting: "ideal" (bicubic kernel, §4.1), "gradual" (the same in the paper's six scale steps), "given" (a
                known kernel, §4.2), "real" (a noisy photograph with an unknown kernel, §4.2), or "kernelgan" (the
                variant that KernelGAN's authors use with their kernel).

        Raises:
            ConfigError: The name is none of these.
        """
        if setting not in _SETTINGS:
            raise ConfigError(f"zssr.setting must be ideal, gradual, given, real or kernelgan, got {setting!r}.")
        return cls(setting=setting, **_SETTINGS[setting])


_SETTINGS: dict[str, dict[str, Any]] = {
    "ideal": {"rotate": True, "ensemble": True, "back_projections": (10,)},
    "gradual": {
        "rotate": True,
        "ensemble": True,
        "back_projections": (6, 6, 8, 10, 10, 12),
        "gradual_steps": ((1.0, 1.5), (1.5, 1.0), (1.5, 1.5), (1.5, 2.0), (2.0, 1.5), (2.0, 2.0)),
    },
    "given": {},
    "real": {
        "noise_sigma": 0.0125,
        "back_projections": (0,),
        "min_father_scale": 0.75,
        "father_scale_sigma": 0.0,
        "shear_sigma": 0.0,
    },
    "kernelgan": {"mirror": False, "leave_as_is": 1.0, "no_interpolation": 0.0, "gradient_weight": True},
}
