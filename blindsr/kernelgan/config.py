"""The settings of KernelGAN. Importing this module loads neither torch nor NumPy.

Sources: [P] Bell-Kligler, Shocher, Irani, "Blind Super-Resolution Kernel Estimation using an Internal-GAN",
NeurIPS 2019, arXiv:1909.06581; [C] the value that the authors' code uses (sefibk/KernelGAN); [O] ours,
docs/deviations.md says why.
"""

import math
from dataclasses import dataclass

from blindsr.errors import ConfigError

__all__ = ["KernelGANConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelGANConfig:
    """Settings of `estimate_kernel`; the defaults are the paper's.

    Losses are taken on images in [−1, 1] [C]; images and noise are given in [0, 1].

    Raises:
        ConfigError: A field is out of its bounds; the message names it.

    Example:
        >>> KernelGANConfig().kernel_size
        13
    """

    iterations: int = 3000  # steps: one update of each network a step [P, C configs.py]
    seed: int = 0  # of the run's own random generator [O]: the authors' code has none
    report_every: int = 50  # steps between two reports of the losses to the listener and the history [O]

    # Networks
    generator_filters: tuple[int, ...] = (7, 5, 3, 1, 1, 1)  # sides, px; 13×13 together [P, C]
    generator_channels: int = 64  # hidden channels of the generator [P, C]
    discriminator_patch: int = 7  # side of the judged patch = of the first filter, px [P, C]
    discriminator_layers: int = 7  # one k×k convolution, then 1×1 ones [P, C]
    discriminator_channels: int = 64  # hidden channels of the discriminator [P, C]
    crop_size: int = 64  # side of the generator's crop, px; the discriminator sees 26 then [P, C]
    discriminator_noise: float = 1 / 255  # σ on what the discriminator sees, in [0, 1] units [C]

    # Adam, one for each network
    learning_rate: float = 2e-4  # both networks [P, C]
    beta1: float = 0.5  # Adam [P, C]
    beta2: float = 0.999  # Adam [P, C]
    learning_rate_every: int = 750  # steps between two divisions of the rates [P, C learner.py]
    learning_rate_divisor: float = 10.0  # [P, C learner.py]

    # Weights of the generator's losses beside the adversarial one, which has weight 1
    weight_sum: float = 0.5  # |1 − Σk| [P, C]
    weight_bicubic: float = 5.0  # likeness to bicubic downscaling, at the start [P, C]
    weight_boundaries: float = 0.5  # mean of |k·mask| [P, C]
    weight_centralised: float = 1.0  # squared distance of the centre of mass; late [P, C]
    weight_sparsity: float = 5.0  # mean of |k|^power; late [P, C]
    sparsity_power: float = 0.2  # [P, C loss.py]
    boundaries_length: float = 2.0  # the penalty grows by e over this, px; [P] has no number [O]

    # How the bicubic likeness is let go, and when the two late losses set in
    bicubic_threshold: float = 0.4  # the likeness counts as reached under this loss, … [C learner.py]
    bicubic_streak: int = 3  # … this many steps in a row [C learner.py]
    bicubic_every: int = 200  # steps between two divisions of its weight from then on [C learner.py]
    bicubic_divisor: float = 100.0  # [C learner.py]
    weight_bicubic_floor: float = 5e-6  # [C learner.py]
    late_below: float = 5e-3  # the late losses set in when the bicubic weight is under this [C learner.py]

    # Clean-up of the final kernel
    clean_up_rank: int = 40  # the weights under a share of the 40th largest become zero [C configs.py]
    clean_up_share: float = 0.75  # that share [C util.py]

    def __post_init__(self) -> None:
        """Check every bound."""
        object.__setattr__(self, "generator_filters", tuple(self.generator_filters))
        for name, low in _WHOLE_NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"{name} must be a whole number, {low} or more, got {value!r}.")
        for name, (least, most) in _REAL_NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ConfigError(f"{name} must be a number from {least:g} to {most:g}, got {value!r}.")
        self._check_sizes()

    def _check_sizes(self) -> None:
        filters = self.generator_filters
        if len(filters) < 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in filters):
            raise ConfigError(f"generator_filters must be two or more whole numbers, got {filters!r}.")
        if any(side < 1 or side % 2 == 0 for side in filters) or self.kernel_size < 3:
            raise ConfigError(f"generator_filters must be odd and make 3×3 px or more, got {filters!r}.")
        if self.kernel_size % 4 != 1:
            # Then the middle of its first look falls onto a pixel of the bicubic answer, two of which make one.
            raise ConfigError(
                f"generator_filters must make a kernel of 5, 9, 13, 17, … px, these make {self.kernel_size}."
            )
        side = self.kernel_size + 2 * (2 * self.discriminator_patch - 1)
        if self.crop_size < side:
            raise ConfigError(
                f"crop_size must be {side} or more for a kernel of {self.kernel_size} px and patches of "
                f"{self.discriminator_patch} px, got {self.crop_size}; the paper uses 64."
            )
        if self.discriminator_patch % 2 == 0:
            raise ConfigError(f"discriminator_patch must be odd, got {self.discriminator_patch}.")
        if self.clean_up_rank > self.kernel_size**2:
            raise ConfigError(
                f"clean_up_rank must be {self.kernel_size**2} or less, the weights of the kernel, "
                f"got {self.clean_up_rank}."
            )

    @property
    def kernel_size(self) -> int:
        """Side of the kernel that the generator's filters make together, in px of the image."""
        return sum(self.generator_filters) - len(self.generator_filters) + 1

    @classmethod
    def paper(cls) -> "KernelGANConfig":
        """The published settings, which are the defaults."""
        return cls()


_WHOLE_NUMBERS = {
    "iterations": 1,
    "seed": 0,
    "report_every": 1,
    "generator_channels": 1,
    "discriminator_patch": 3,
    "discriminator_layers": 3,
    "discriminator_channels": 1,
    "crop_size": 1,
    "learning_rate_every": 1,
    "bicubic_streak": 1,
    "bicubic_every": 1,
    "clean_up_rank": 1,
}

_REAL_NUMBERS = {
    "discriminator_noise": (0.0, 1.0),
    "learning_rate": (1e-12, 1.0),
    "beta1": (0.0, 0.999999),
    "beta2": (0.0, 0.999999),
    "learning_rate_divisor": (1.0, math.inf),
    "weight_sum": (0.0, 1e6),
    "weight_bicubic": (0.0, 1e6),
    "weight_boundaries": (0.0, 1e6),
    "weight_centralised": (0.0, 1e6),
    "weight_sparsity": (0.0, 1e6),
    "sparsity_power": (0.01, 1.0),
    "boundaries_length": (0.01, 1e6),
    "bicubic_threshold": (0.0, 1e6),
    "bicubic_divisor": (1.0, math.inf),
    "weight_bicubic_floor": (0.0, 1e6),
    "late_below": (0.0, 1e6),
    "clean_up_share": (0.0, 1.0),
}
