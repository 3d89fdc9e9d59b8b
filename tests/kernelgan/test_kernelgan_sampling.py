"""Where the crops are taken."""

import torch
from skimage.data import camera

from blindsr.kernelgan.sampling import crop_weights, draw_corners, gradient_magnitude


def test_a_crop_weighs_the_mean_gradient_magnitude_inside_it():
    image = torch.rand(3, 37, 31, dtype=torch.float64)
    expected = gradient_magnitude(image).unfold(0, 9, 1).unfold(1, 9, 1).mean((-1, -2))
    torch.testing.assert_close(crop_weights(image, 9), expected, rtol=1e-9, atol=1e-12)


def test_there_is_one_weight_for_every_place_of_the_crop():
    assert crop_weights(torch.rand(1, 37, 31), 9).shape == (29, 23)
    assert crop_weights(torch.rand(1, 37, 31), 31).shape == (7, 1)


def test_the_gradient_of_a_ramp_is_its_slope():
    ramp = 0.03 * torch.arange(31.0).expand(3, 37, 31) + 0.04 * torch.arange(37.0)[:, None]
    torch.testing.assert_close(gradient_magnitude(ramp), torch.full((37, 31), 0.05), rtol=1e-4, atol=1e-6)


def test_no_crop_is_taken_where_nothing_is_to_be_seen():
    image = torch.zeros(1, 37, 61)
    image[..., 40:] = torch.rand(1, 37, 21)
    corners = draw_corners(crop_weights(image, 9), 200, torch.Generator().manual_seed(0))
    # Central differences see one pixel beyond the step.
    assert all(left + 9 > 39 for _, left in corners)


def test_crops_come_as_often_as_their_weights_say():
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    corners = draw_corners(weights, 20000, torch.Generator().manual_seed(0))
    counts = torch.zeros(2, 3, dtype=torch.float64)
    for top, left in corners:
        counts[top, left] += 1
    # Five standard deviations of a binomial frequency are 0.018 here.
    assert float((counts / 20000 - weights / 10).abs().max()) < 0.018
    assert float(counts[weights == 0].sum()) == 0


def test_a_flat_image_is_sampled_evenly():
    assert torch.equal(crop_weights(torch.full((3, 20, 22), 0.5), 9), torch.ones(12, 14, dtype=torch.float64))


def test_the_same_seed_draws_the_same_crops_and_another_seed_others():
    weights = crop_weights(torch.from_numpy(camera()[None, :97, :83] / 255), 26)
    first, again, other = (draw_corners(weights, 50, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == again
    assert first != other
