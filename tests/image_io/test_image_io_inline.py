import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import ImageError
from blindsr.image_io.inline import eight_bits, jpeg_round_trip, picture_bytes

PHOTO = np.ascontiguousarray(data.chelsea()[60:97, 80:111])


@pytest.mark.parametrize("samples", [PHOTO, PHOTO[..., :1], PHOTO[..., 0]])
def test_a_png_in_memory_holds_every_sample(samples):
    with Image.open(io.BytesIO(picture_bytes(samples, "png"))) as image:
        assert np.array_equal(np.asarray(image), np.squeeze(samples))


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_a_lossy_picture_is_near_and_smaller_at_lower_quality(kind):
    good, poor = (picture_bytes(PHOTO, kind, quality=quality) for quality in (95, 30))
    assert len(poor) < len(good)
    with Image.open(io.BytesIO(good)) as image:
        assert np.abs(np.asarray(image).astype(float) - PHOTO).mean() < 5


def test_jpeg_damages_more_at_lower_quality_and_keeps_the_shape():
    for samples in (PHOTO, PHOTO[..., :1]):
        errors = [np.abs(jpeg_round_trip(samples, q).astype(float) - samples).mean() for q in (95, 45, 10)]
        assert 0 < errors[0] < errors[1] < errors[2]
        assert jpeg_round_trip(samples, 45).shape == samples.shape


def test_floats_are_clipped_and_rounded_and_bytes_left_alone():
    assert eight_bits(np.array([-1.0, 0.0, 0.501, 2.0])).tolist() == [0, 0, 128, 255]
    assert eight_bits(PHOTO) is PHOTO


def test_what_is_no_eight_bit_picture_is_refused():
    with pytest.raises(ImageError, match="must be uint8 gray or RGB"):
        picture_bytes(PHOTO[..., :2], "png")
    with pytest.raises(ImageError, match="must be one of png, webp, jpeg, got 'gif'"):
        picture_bytes(PHOTO, "gif")
