"""Zero-shot super-resolution: a network trained on the image's own pairs (Shocher et al., CVPR 2018)."""

from blindsr.zssr.config import PaperZSSRConfig, ZSSRSetting
from blindsr.zssr.paper import upscale_paper
from blindsr.zssr.result import ZSSRResult

__all__ = ["PaperZSSRConfig", "ZSSRResult", "ZSSRSetting", "upscale_paper"]
