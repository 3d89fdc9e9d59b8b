"""Settings of the free-form estimator."""

from dataclasses import dataclass

from blindsr.errors import ConfigError

__all__ = ["L0Config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class L0Config:
    """Alternation of a sharp image with few edges and a kernel that explains the photograph with it."""

    side: int = 17  # of the kernel on the LR grid, odd; one that reaches its frame is looked for in one twice as large
    gradient_weight: float = 2e-3  # λ of the count of non-zero gradients, grey levels in [0, 1]
    largest_penalty: float = 30.0  # β at which the splitting of the gradients ends; it doubles from 2λ
    kernel_weight: float = 2.0  # γ of the kernel's own energy
    iterations: int = 5  # alternations per level of the pyramid
    refinements: int = 6  # alternations from the mean of the three kernels, at half of λ
    least_share: float = 0.05  # weights under this share of the largest are set to zero; of the mean, twice it
    window: int = 512  # the busiest window of at most this side is looked at, LR pixels
    seed: int = 0  # nothing is random; it is here because every estimator has one

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.side < 5 or self.side % 2 == 0:
            raise ConfigError(f"l0.side must be odd and 5 or more, got {self.side}.")
        if self.gradient_weight <= 0 or self.kernel_weight <= 0:
            raise ConfigError("l0.gradient_weight and l0.kernel_weight must be positive.")
        if self.iterations < 1 or self.refinements < 0:
            raise ConfigError(
                "l0.iterations must be 1 or more and l0.refinements 0 or more, got "
                f"{self.iterations} and {self.refinements}."
            )
        if not 0 <= self.least_share < 1:
            raise ConfigError(f"l0.least_share must be in [0, 1), got {self.least_share}.")
        if self.window < 2 * self.side:
            raise ConfigError(f"l0.window must be 2·side = {2 * self.side} or more, got {self.window}.")
