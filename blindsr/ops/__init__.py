"""Operators on images: resize, degrade and its adjoint, the eight dihedral views.

Images are tensors (B, C, H, W); every function keeps the dtype and device of its input and leaves it
unchanged.
"""

from blindsr.ops.color import luma
from blindsr.ops.degrade import degrade, degrade_adjoint
from blindsr.ops.geometry import dihedral, dihedral_inverse, shave
from blindsr.ops.resize import imresize

__all__ = [
    "degrade",
    "degrade_adjoint",
    "dihedral",
    "dihedral_inverse",
    "imresize",
    "luma",
    "shave",
]
