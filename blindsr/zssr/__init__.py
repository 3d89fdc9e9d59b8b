"""Zero-shot super-resolution: a network trained on the image's own pairs (Shocher et al., CVPR 2018)."""

from blindsr.zssr.config import PaperZSSRConfig, ZSSRConfig, ZSSRSetting
from blindsr.zssr.paper import upscale_paper
from blindsr.zssr.result import ZSSRResult
from blindsr.zssr.upscaler import upscale

__all__ = ["PaperZSSRConfig", "ZSSRConfig", "ZSSRResult", "ZSSRSetting", "upscale", "upscale_paper"]
