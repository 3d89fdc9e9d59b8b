"""Deep image prior: an untrained network whose output explains the image, for a known kernel and for an unknown one.

Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018, arXiv:1711.10925. Departures from the paper are listed in
docs/method/methods-of-the-field.md.
"""

from blindsr.upscalers.deep_prior.dip_fkp import DIPFKPConfig, DIPFKPUpscaler
from blindsr.upscalers.deep_prior.dkp import DKPConfig, DKPUpscaler
from blindsr.upscalers.deep_prior.image_prior import DeepPriorConfig, DeepPriorUpscaler

__all__ = ["DIPFKPConfig", "DIPFKPUpscaler", "DKPConfig", "DKPUpscaler", "DeepPriorConfig", "DeepPriorUpscaler"]
