"""What a user should know before a kernel from a specification is used."""

from blindsr.kernels.figures import kernel_cautions
from blindsr.sensors.design import Designed
from blindsr.sensors.system import System

__all__ = ["ENERGY_ALARM", "design_cautions"]

ENERGY_ALARM = 0.05  # of the weights; an Airy disc loses 3 % of its light beyond 6 λN, which is usual
_NOTHING_ALIASES = 2.0  # Q from which the optics end before LR's Nyquist frequency
_FAINT = 0.05


def design_cautions(system: System, made: Designed) -> tuple[str, ...]:
    """Sentences; mostly there are none.

    Args:
        system: The camera.
        made: Its kernel.
    """
    found = []
    y, x = system.nyquist()
    if system.q is not None and system.q >= _NOTHING_ALIASES:
        found.append(
            f"Q = {system.q:.2f}: the optics pass nothing above the pixels' Nyquist frequency, so nothing aliases and "
            "there is no lost detail to find; super-resolution can only deconvolve."
        )
    elif max(y, x) < _FAINT:
        found.append(
            f"the MTF at the pixels' Nyquist frequency is {max(y, x):.3f}: hardly anything aliases, so there is little "
            "detail to find, and noise will be amplified."
        )
    elif min(y, x) >= _FAINT:
        # The same sentence as above would come from the kernel; what is left to say of it is that it is too sharp.
        found += [note for note in kernel_cautions(made.kernel) if "more than bicubic" in note]
    if made.energy_lost > ENERGY_ALARM:
        found.append(
            f"the kernel's frame of {made.kernel.size} px cuts off {made.energy_lost:.0%} of the PSF; give it a larger "
            "size_px if the result has halos."
        )
    return tuple(found)
