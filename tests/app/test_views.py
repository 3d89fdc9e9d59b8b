import numpy as np
import pytest
import torch

from blindsr.app.jobs import Choices, Progress
from blindsr.app.views import Place, Viewer
from blindsr.image_io import read_photo, to_uint8
from blindsr.ops import imresize

pytestmark = pytest.mark.usefixtures("small_network")


@pytest.fixture
def viewer(session, upload):
    """Open the result of an array."""
    opened = []

    def open_result(name, array, *, scale=2, **options):
        session.add_photos([upload(name, array, **options)])
        session.run(Choices(scale=scale, preset="fast", kernel="bicubic"), Progress([name]))
        assert session.failures == []
        opened.append(Viewer(session.outcomes[-1]))
        return opened[-1]

    yield open_result
    for each in opened:
        each.close()


def test_a_small_photograph_is_compared_as_a_whole(viewer, pixels):
    view = viewer("a.png", pixels)
    compared = view.compare()
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    interpolated = to_uint8(imresize(tensor, 2)[0].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(compared.left, interpolated)
    np.testing.assert_array_equal(compared.right, to_uint8(read_photo(view.outcome.image).values))
    assert compared.where == (0, 0, 1, 1)


def test_a_part_is_what_the_whole_has_there(viewer, pixels, monkeypatch):
    monkeypatch.setattr("blindsr.app.views._VIEW", (36, 24))
    view = viewer("a.png", pixels)
    view.place = Place(0.9, 0.5)
    compared = view.compare()
    assert compared.where == (22 / 40, 18 / 48, 18 / 40, 12 / 48)
    result = to_uint8(read_photo(view.outcome.image).values)
    np.testing.assert_array_equal(compared.right, result[36:60, 44:80])
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    whole = to_uint8(imresize(tensor, 2)[0].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(compared.left, whole[36:60, 44:80])


@pytest.mark.parametrize("scale", [1, 3])
def test_grey_of_16_bits_is_shown_in_8(viewer, pixels, scale):
    grey = pixels[..., 1].astype(np.uint16) * 257
    compared = viewer("a.png", grey, scale=scale).compare()
    assert compared.left.shape == compared.right.shape == (48 * scale, 40 * scale, 1)
    if scale == 1:
        np.testing.assert_array_equal(compared.left[..., 0], pixels[..., 1])


def test_what_is_transparent_is_white(viewer, pixels):
    alpha = np.full((48, 40, 1), 255, np.uint8)
    alpha[:, :20] = 0
    compared = viewer("a.png", np.concatenate([pixels, alpha], 2)).compare()
    assert compared.left.shape == compared.right.shape == (96, 80, 3)
    assert (compared.left[:, :30] == 255).all()
    assert (compared.right[:, :30] == 255).all()


def test_the_overview_is_the_photograph_made_smaller(viewer, pixels, monkeypatch):
    monkeypatch.setattr("blindsr.app.views.OVERVIEW", 24)
    overview = viewer("a.png", pixels).overview
    assert overview.shape == (24, 20, 3)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    whole = to_uint8(imresize(tensor, 0.5)[0].permute(1, 2, 0).numpy())
    assert np.abs(overview.astype(int) - whole).max() <= 1


def test_a_trial_of_another_width_is_sharper_where_the_kernel_is_wider(viewer, pixels):
    view = viewer("a.png", pixels)
    same, kernel = view.trial(1.0)
    np.testing.assert_array_equal(same.left, same.right)
    assert kernel is view.outcome.result.kernel
    wider, _ = view.trial(1.4)
    narrower, _ = view.trial(0.7)
    np.testing.assert_array_equal(wider.left, same.left)
    less, more = (np.abs(np.diff(part.right.astype(float), axis=0)).mean() for part in (narrower, wider))
    assert more > 1.02 * less


def test_a_trial_with_the_kernel_as_it_is_is_the_fast_result(viewer, pixels):
    view = viewer("a.png", pixels)
    same, _ = view.trial(1.0)
    result = to_uint8(read_photo(view.outcome.image).values)
    assert np.abs(same.right.astype(int) - result).mean() < 0.5
