"""One kernel for each band of an image."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blindsr.errors import KernelError
from blindsr.kernels.kernel import Kernel

__all__ = ["BandKernels"]


@dataclass(frozen=True, slots=True)
class BandKernels:
    """Kernels of the bands of one image, in the order of its channels.

    Args:
        kernels: One or more, all for one scale.
        names: What the bands are called, as many.

    Raises:
        KernelError: The scales differ, or the numbers do.
    """

    kernels: tuple[Kernel, ...]
    names: tuple[str, ...]

    def __init__(self, kernels: Sequence[Kernel], names: Sequence[str]) -> None:
        object.__setattr__(self, "kernels", tuple(kernels))
        object.__setattr__(self, "names", tuple(names))
        if not self.kernels or len(self.kernels) != len(self.names):
            raise KernelError(f"bands need a kernel and a name each, got {len(self.kernels)} and {len(self.names)}.")
        scales = sorted({kernel.scale for kernel in self.kernels})
        if len(scales) > 1:
            raise KernelError(f"the kernels of an image's bands must be for one scale, got {scales}; resample some.")

    @property
    def scale(self) -> int:
        """Factor from LR to HR."""
        return self.kernels[0].scale

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name the weights, the scale and the order."""
        return hashlib.sha256(" ".join(kernel.digest for kernel in self.kernels).encode()).hexdigest()[:12]

    @property
    def provenance(self) -> Mapping[str, object]:
        """Where the kernels come from: that of the first."""
        return self.kernels[0].provenance

    def check_channels(self, channels: int) -> None:
        """Refuse an image that does not have as many channels as there are kernels.

        Raises:
            KernelError: It has not.
        """
        if channels != len(self.kernels):
            raise KernelError(
                f"{len(self.kernels)} kernels ({', '.join(self.names)}) need an image of as many bands, this one has "
                f"{channels}; name the band of each channel in its order, as in --sensor NAME:B4,B3,B2, or one band "
                "for all."
            )
