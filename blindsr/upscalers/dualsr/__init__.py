"""DualSR: an upsampler and a downsampler of one image, trained together as each other's inverse.

Emad, Peemen, Corporaal, "DualSR: Zero-Shot Dual Learning for Real-World Super-Resolution", WACV 2021. Departures from
the paper are listed in docs/method/methods-of-the-field.md.
"""

from blindsr.upscalers.dualsr.upscaler import DualSRConfig, DualSRUpscaler

__all__ = ["DualSRConfig", "DualSRUpscaler"]
