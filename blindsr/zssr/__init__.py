"""ZSSR as published: a network trained on one image's own pairs of father and son.

Shocher, Cohen, Irani, "Zero-Shot" Super-Resolution using Deep Internal Learning, CVPR 2018, arXiv:1712.06087.
Departures from the paper and from the authors' code are listed in docs/method/deviations.md.
"""

from blindsr.zssr.config import ZSSRConfig
from blindsr.zssr.upscaler import PublishedZSSR, upscale

__all__ = ["PublishedZSSR", "ZSSRConfig", "upscale"]
