"""Blind super-resolution of photographs.

The blur of a photograph is estimated from the photograph itself (KernelGAN, a spectral fit, and others), and a network
conditioned on that blur, if wanted adapted to the photograph, upscales it (a pretrained network, ZSSR, and others).

>>> import blindsr
>>> kernel = blindsr.Kernel([[0.25, 0.25], [0.25, 0.25]], 2)

The public names are those of `__init__.pyi`. They are imported when they are first used: `import blindsr` costs
nothing, and torch is loaded by the first call that needs it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
