import numpy as np
import pytest
import torch

from blindsr.ops import to_array, to_tensor


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_an_array_becomes_a_tensor_and_an_array_again(bands, dtype):
    pixels = np.arange(4 * 5 * bands).reshape(4, 5, bands).astype(dtype)
    pixels.flags.writeable = False  # as those of a mapped file
    image = to_tensor(pixels)
    assert image.shape == (1, bands, 4, 5)
    assert image.is_contiguous()
    assert image[0, bands - 1, 2, 3] == pixels[2, 3, bands - 1]
    again = to_array(image)
    assert again.dtype == dtype
    assert again.flags.c_contiguous
    assert np.array_equal(again, pixels)
    image += torch.ones_like(image)
    assert pixels[0, 0, 0] == 0
