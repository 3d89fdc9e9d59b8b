"""Settings of the spectral fit."""

from dataclasses import dataclass

from blindsr.errors import ConfigError

__all__ = ["SpectralConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralConfig:
    """The spectral fit: how the mean periodogram is taken and what is believed before it is seen."""

    tile: int = 64  # side of the Hann-windowed luma tiles, LR pixels
    max_tiles: int = 4000  # tiles beyond this number are drawn at random: the cost stays bounded
    exponent: float = 2.2  # prior mean of α in |f|^−α, the spectrum of photographs
    exponent_sigma: float = 0.3  # prior spread of α
    prior_weight: float = 0.03  # weight of the prior against one fitted frequency, times their number
    own_blur: float = 0.25  # β in cov(k_s) = (s² − β)·Σ_LR: HR's own blur, calibrated once at ×2
    discs: bool = False  # whether a disc of defocus is tried as well, and taken where it explains the spectrum
    splits: int = 3  # times that the tiles are split into random halves, whose estimates tell the doubt; 0 for none
    seed: int = 0  # draws the tiles of a large image, and the halves

    def __post_init__(self) -> None:
        """Check the bounds."""
        if self.tile < 16 or self.tile % 2:
            raise ConfigError(f"spectral.tile must be even and 16 or more, got {self.tile}.")
        if self.splits < 0:
            raise ConfigError(f"spectral.splits must be 0 or more, got {self.splits}.")
        if self.max_tiles < 1:
            raise ConfigError(f"spectral.max_tiles must be 1 or more, got {self.max_tiles}.")
        if self.exponent_sigma <= 0:
            raise ConfigError(f"spectral.exponent_sigma must be positive, got {self.exponent_sigma}.")
        if self.prior_weight < 0:
            raise ConfigError(f"spectral.prior_weight must be 0 or more, got {self.prior_weight}.")
        if not 0 <= self.own_blur <= 1:
            raise ConfigError(f"spectral.own_blur must be in [0, 1], got {self.own_blur}.")
