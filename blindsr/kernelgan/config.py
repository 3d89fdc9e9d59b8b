"""Settings of KernelGAN. Importing this module loads neither torch nor NumPy.

Sources: [P] the paper, Bell-Kligler, Shocher, Irani, "Blind Super-Resolution Kernel Estimation using an
Internal-GAN", NeurIPS 2019, arXiv:1909.06581; [C] the value that the authors' code uses (sefibk/KernelGAN); [O] chosen
for this implementation, for the reasons in docs/method/deviations.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from blindsr.errors import ConfigError

__all__ = ["VARIANTS", "EnhancedConfig", "KernelGANConfig"]

VARIANTS = ("published", "e-kernelgan")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedConfig:
    """What E-KernelGAN adds to KernelGAN, or sets differently.

    References:
        Kim, Lee, Jeong, "E-KernelGAN: Enhanced Kernel Estimation GAN", IEEE Access 10, 2022: [E] a value of it.

    Raises:
        ConfigError: A field is out of its bounds; the message names it.
    """

    weight_ranking: float = 0.5  # initial weight of the ranking of a fake above a blurrier one [E]
    ranking_falls: int = 1000  # step from which that weight falls linearly [E]
    ranking_ends: int = 1400  # step at which it is 0 [E]
    blur_centre_min: float = 0.8  # smallest weight of the centre in the random 3×3 blur of a fake [E]
    blur_centre_max: float = 0.9  # and the largest [E]
    weight_unimodal: float = 5.0  # of L_unimodal, the mean rise of the kernel away from its centre [E]
    weight_boundaries: float = 5.0  # in place of KernelGAN's 0.5 [E]

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name in ("weight_ranking", "weight_unimodal", "weight_boundaries"):
            _check_real(self, name, 0.0, 1e6, "kernelgan.enhanced")
        for name in ("ranking_falls", "ranking_ends"):
            _check_integer(self, name, 0, "kernelgan.enhanced")
        _check_real(self, "blur_centre_min", 0.0, 1.0, "kernelgan.enhanced")
        _check_real(self, "blur_centre_max", self.blur_centre_min, 1.0, "kernelgan.enhanced")
        if self.ranking_ends <= self.ranking_falls:
            raise ConfigError(
                f"kernelgan.enhanced.ranking_ends must be above ranking_falls, got {self.ranking_ends} and "
                f"{self.ranking_falls}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGANConfig:
    """Settings of KernelGAN; the defaults are the paper's.

    Losses are computed on images in [−1, 1] [C]; the image and the noise are in [0, 1].

    Raises:
        ConfigError: A field is out of its bounds; the message names it.

    Example:
        >>> KernelGANConfig().kernel_size
        13
    """

    iterations: int = 3000  # training steps: one update of each network per step [P, C configs.py]
    variant: str = "published"  # "published", or "e-kernelgan" (docs/method/estimators-of-the-field.md)
    seed: int = 0  # seed of the crops, the initial weights and the noise [O]: the authors' code has none
    report_every: int = 50  # steps between two reports of the losses to the listener and the history [O]

    # Networks (§3, §4.1)
    generator_filters: tuple[int, ...] = (7, 5, 3, 1, 1, 1)  # filter sizes, px; together 13×13 [P, C]
    generator_channels: int = 64  # hidden channels of the generator [P, C]
    discriminator_patch: int = 7  # side of the classified patch, which is that of the first filter, px [P, C]
    discriminator_layers: int = 7  # one k×k convolution, then 1×1 convolutions [P, C]
    discriminator_channels: int = 64  # hidden channels of the discriminator [P, C]
    crop_size: int = 64  # side of the generator's crop, px; the discriminator's is then 26 px [P, C]
    discriminator_noise: float = 1 / 255  # standard deviation of noise added to the discriminator's input, [0, 1] [C]

    # Adam, one optimiser per network
    learning_rate: float = 2e-4  # of both networks [P, C]
    beta1: float = 0.5  # [P, C]
    beta2: float = 0.999  # [P, C]
    learning_rate_every: int = 750  # steps between two divisions of the learning rates [P, C learner.py]
    learning_rate_divisor: float = 10.0  # [P, C learner.py]

    # Weights of the generator's losses; the adversarial loss has weight 1 (§4.2)
    weight_sum: float = 0.5  # α, of L_sum_to_1 = |1 − Σk| [P, C]
    weight_bicubic: float = 5.0  # initial weight of the squared difference from bicubic downscaling [P, C]
    weight_boundaries: float = 0.5  # β, of L_boundaries = mean of |k·m| [P, C]
    weight_centralised: float = 1.0  # δ, of L_center, the squared distance of the centre of mass; late [P, C]
    weight_sparsity: float = 5.0  # γ, of L_sparse = mean of |k|^power; late [P, C]
    sparsity_power: float = 0.2  # [P, C loss.py]
    boundaries_length: float = 2.0  # the mask m grows by a factor of e over this distance, px; [P] has no number [O]

    # Schedule of the bicubic loss and of the two late losses (losses.py)
    bicubic_threshold: float = 0.4  # a bicubic loss below this counts as reached [C learner.py]
    bicubic_streak: int = 3  # consecutive steps below the threshold before the weight starts to fall [C learner.py]
    bicubic_every: int = 200  # steps between two divisions of the weight from then on [C learner.py]
    bicubic_divisor: float = 100.0  # [C learner.py]
    weight_bicubic_floor: float = 5e-6  # smallest weight [C learner.py]
    late_below: float = 5e-3  # the late losses are added when the bicubic weight is below this [C learner.py]

    # Clean-up of the final kernel
    clean_up_rank: int = 40  # a share of the 40th largest weight is subtracted from all weights [C configs.py]
    clean_up_share: float = 0.75  # that share [C util.py]

    enhanced: EnhancedConfig = field(default_factory=EnhancedConfig)  # of the variant e-kernelgan

    def __post_init__(self) -> None:
        """Check the bounds."""
        object.__setattr__(self, "generator_filters", tuple(self.generator_filters))
        if isinstance(self.enhanced, Mapping):  # from JSON
            object.__setattr__(self, "enhanced", EnhancedConfig(**self.enhanced))
        if self.variant not in VARIANTS:
            raise ConfigError(f"kernelgan.variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")
        for name, low in _MIN_INTEGERS.items():
            _check_integer(self, name, low)
        for name, (lowest, highest) in _REAL_BOUNDS.items():
            _check_real(self, name, lowest, highest)
        self._check_sizes()

    def _check_sizes(self) -> None:
        filters = self.generator_filters
        if len(filters) < 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in filters):
            raise ConfigError(f"kernelgan.generator_filters must be two or more whole numbers, got {filters!r}.")
        if any(side < 1 or side % 2 == 0 for side in filters) or self.kernel_size < 3:
            raise ConfigError(f"kernelgan.generator_filters must be odd and make 3×3 px or more, got {filters!r}.")
        if self.kernel_size % 4 != 1:
            # Only then is the centre of the kernel's first position a whole pixel of the bicubic image as well.
            raise ConfigError(
                "kernelgan.generator_filters must make a kernel of 5, 9, 13, 17, … px, these make "
                f"{self.kernel_size} px."
            )
        side = self.kernel_size + 2 * (2 * self.discriminator_patch - 1)
        if self.crop_size < side:
            raise ConfigError(
                f"kernelgan.crop_size must be {side} or more for a kernel of {self.kernel_size} px and patches of "
                f"{self.discriminator_patch} px, got {self.crop_size}; the paper uses 64."
            )
        if self.discriminator_patch % 2 == 0:
            raise ConfigError(f"kernelgan.discriminator_patch must be odd, got {self.discriminator_patch}.")
        if self.clean_up_rank > self.kernel_size**2:
            raise ConfigError(
                f"kernelgan.clean_up_rank must be {self.kernel_size**2} or less, the number of the kernel's weights, "
                f"got {self.clean_up_rank}."
            )

    @property
    def kernel_size(self) -> int:
        """Side of the kernel that the generator's filters make together, px of the image."""
        return sum(self.generator_filters) - len(self.generator_filters) + 1


def _check_integer(config: object, name: str, low: int, table: str = "kernelgan") -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{table}.{name} must be a whole number, {low} or more, got {value!r}.")


def _check_real(config: object, name: str, lowest: float, highest: float, table: str = "kernelgan") -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise ConfigError(f"{table}.{name} must be a number from {lowest:g} to {highest:g}, got {value!r}.")


_MIN_INTEGERS = {
    **dict.fromkeys(("iterations", "report_every", "generator_channels", "discriminator_channels", "crop_size"), 1),
    **dict.fromkeys(("learning_rate_every", "bicubic_streak", "bicubic_every", "clean_up_rank"), 1),
    "seed": 0,
    "discriminator_patch": 3,
    "discriminator_layers": 3,
}

_REAL_BOUNDS = {
    **dict.fromkeys(("weight_sum", "weight_bicubic", "weight_boundaries", "weight_centralised"), (0.0, 1e6)),
    **dict.fromkeys(("weight_sparsity", "weight_bicubic_floor", "bicubic_threshold", "late_below"), (0.0, 1e6)),
    "discriminator_noise": (0.0, 1.0),
    "learning_rate": (1e-12, 1.0),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "learning_rate_divisor": (1.0, math.inf),
    "sparsity_power": (0.01, 1.0),
    "boundaries_length": (0.01, 1e6),
    "bicubic_divisor": (1.0, math.inf),
    "clean_up_share": (0.0, 1.0),
}
