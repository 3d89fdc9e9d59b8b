"""Settings of super-resolution from the learned start."""

from dataclasses import dataclass
from pathlib import Path

from blindsr.errors import ConfigError
from blindsr.runtime import Precision

__all__ = ["ESTIMATED_KERNEL_ERROR", "StartConfig"]

# A filter that trusts an estimated kernel as if it were the true one rings where the truth passes less: docs/start.md.
ESTIMATED_KERNEL_ERROR = 0.04


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """One forward pass of the learned start, then as many steps on the image's own pairs as are wanted.

    What each value is worth was measured; the table is in docs/start.md.
    """

    weights: Path | None = None  # a file of `blindsr train-start`; None is the one that comes with blindsr
    untrained: bool = False  # nothing learned before: random weights from the seed, and the Wiener filter
    steps: int = 120  # optimiser steps on the image's own pairs; 0 is the forward pass alone
    learning_rate: float = 1.2e-3  # Adam's, at its highest: linear warm-up over a tenth of the steps, then a cosine
    batch: int = 8  # crops a step
    crop: int = 24  # side of a son's crop in LR pixels
    views: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)  # dihedral views of the father, each degraded by the same kernel
    noise_sigma: float | None = None  # standard deviation of the photograph's noise, [0, 1] units; None: estimated
    # Standard deviation of the error of the kernel's transfer function, which is 1 at frequency 0. None is 0 for a
    # kernel that is known and `ESTIMATED_KERNEL_ERROR` for one that was estimated (blindsr.pipelines).
    kernel_error: float | None = None
    back_projections: int = 1  # corrections towards the LR image, by the Wiener filter
    # Dihedral views whose answers are averaged at the end, if the kernel is the same under all of them, as the bicubic
    # one is: 1, 2, 4 or 8 (Timofte, Rothe, Van Gool, CVPR 2016).
    ensemble: int = 8
    ensemble_pixels: int | None = 6_000_000  # HR pixels over which one view must do; None: of any image
    judge: int = 64  # side of the held-out patch that decides whether the steps are kept, LR pixels of the son
    precision: Precision = "auto"  # bf16 where the processor has it natively
    max_tile: int = 512  # LR pixels a side at inference; larger images are cut into tiles with a halo
    seed: int = 0
    report_every: int = 50  # steps between losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        _require(
            not (self.untrained and self.weights is not None),
            f"start.untrained begins from random weights; leave it out, or start.weights = {self.weights}.",
        )
        _require(self.steps >= 0, f"start.steps must be 0 or more, got {self.steps}.")
        _require(self.learning_rate > 0, f"start.learning_rate must be positive, got {self.learning_rate}.")
        _require(self.batch >= 1, f"start.batch must be 1 or more, got {self.batch}.")
        _require(self.crop >= 8, f"start.crop must be 8 or more, got {self.crop}.")
        _require(
            len(self.views) > 0 and all(0 <= view < 8 for view in self.views),
            f"start.views must name one or more of the views 0 … 7, got {list(self.views)}.",
        )
        _require(
            self.noise_sigma is None or self.noise_sigma >= 0,
            f"start.noise_sigma must be 0 or more, or None, got {self.noise_sigma}.",
        )
        _require(
            self.kernel_error is None or self.kernel_error >= 0,
            f"start.kernel_error must be 0 or more, or None, got {self.kernel_error}.",
        )
        _require(self.back_projections >= 0, f"start.back_projections must be 0 or more, got {self.back_projections}.")
        _require(self.ensemble in (1, 2, 4, 8), f"start.ensemble must be 1, 2, 4 or 8, got {self.ensemble}.")
        _require(
            self.ensemble_pixels is None or self.ensemble_pixels >= 0,
            f"start.ensemble_pixels must be 0 or more, or None, got {self.ensemble_pixels}.",
        )
        _require(self.judge >= 8, f"start.judge must be 8 or more, got {self.judge}.")
        _require(self.max_tile >= 32, f"start.max_tile must be 32 or more, got {self.max_tile}.")
        _require(self.report_every >= 1, f"start.report_every must be 1 or more, got {self.report_every}.")
        _require(
            self.precision in ("auto", "fp32", "bf16"),
            f"start.precision must be auto, fp32 or bf16, got {self.precision!r}.",
        )
