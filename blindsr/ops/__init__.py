"""Operators on images: resize, degrade, the eight dihedral views, luma, and the images as arrays.

Images are tensors (B, C, H, W); every function keeps the dtype and device of its input and leaves it
unchanged.
"""

from blindsr.ops.arrays import to_array, to_tensor
from blindsr.ops.color import luma
from blindsr.ops.degrade import degrade
from blindsr.ops.geometry import dihedral, dihedral_inverse
from blindsr.ops.resize import imresize

__all__ = ["degrade", "dihedral", "dihedral_inverse", "imresize", "luma", "to_array", "to_tensor"]
