"""Settings of the pretrained network and of its adaptation to one photograph."""

from dataclasses import dataclass
from pathlib import Path

from blindsr.errors import ConfigError
from blindsr.registry import check_minimum, check_setting
from blindsr.runtime import Precision

__all__ = ["PretrainedConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedConfig:
    """Forward passes of the pretrained network, preceded by optimiser steps on the image's own pairs if wanted.

    The values were chosen by measurement (docs/method/pretrained-network.md).
    """

    weights: Path | None = None  # a checkpoint of `blindsr train`, or "leaves"; None is the bundled one of photographs
    random_weights: bool = False  # begin with random weights instead: the untrained network equals the Wiener filter
    steps: int = 60  # optimiser steps on the image's own pairs; 0 is forward passes alone
    learning_rate: float = 6e-4  # highest rate of Adam: linear warm-up over a tenth of the steps, then a half cosine
    batch: int = 8  # crops per step
    crop: int = 24  # side of a crop of the degraded image, LR pixels
    views: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)  # dihedral views of the training target
    back_projections: int = 1  # corrections towards the LR image, by the Wiener filter; none where there is noise
    # Dihedral views of the image and its kernel whose predictions are averaged: 1, 2, 4 or 8 (Timofte, Rothe, Van Gool,
    # "Seven ways to improve example-based single image super resolution", CVPR 2016, section 3).
    ensemble: int = 4
    ensemble_pixels: int | None = 6_000_000  # HR pixels above which a single view is used; None: no limit
    validation_side: int = 64  # side of the validation patch that decides whether the steps are kept, LR pixels
    precision: Precision = "auto"  # bf16 where the processor supports it natively
    max_tile: int = 512  # LR pixels per side in one pass of the network: smaller ones repeat more of their borders
    seed: int = 0  # of crops and noise in the adaptation
    report_every: int = 50  # steps between losses in the history

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.random_weights and self.weights is not None:
            raise ConfigError(
                f"pretrained.random_weights begins with random weights; leave it out, or weights = {self.weights}."
            )
        check_minimum(self, "pretrained", 0, "steps", "back_projections")
        check_minimum(self, "pretrained", 1, "batch", "report_every")
        check_minimum(self, "pretrained", 8, "crop", "validation_side")
        if not self.views or not all(0 <= view < 8 for view in self.views):
            raise ConfigError(f"pretrained.views must name one or more of the views 0 … 7, got {list(self.views)}.")
        for name, is_valid, bounds in (
            ("learning_rate", self.learning_rate > 0, "positive"),
            ("ensemble", self.ensemble in (1, 2, 4, 8), "1, 2, 4 or 8"),
            ("ensemble_pixels", self.ensemble_pixels is None or self.ensemble_pixels >= 0, "0 or more, or None"),
            ("max_tile", self.max_tile >= 32 and self.max_tile % 2 == 0, "an even number of 32 or more"),
            ("precision", self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
        ):
            check_setting(self, "pretrained", name, is_valid, bounds)
