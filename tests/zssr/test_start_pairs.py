"""The pairs that an image gives after it has been super-resolved once."""

import torch

from blindsr.kernels import gaussian
from blindsr.ops import degrade, dihedral, imresize
from blindsr.zssr.start.adaptation import FATHERS, HELD_OUT, SharpPairs
from blindsr.zssr.start.inference import Trust

KERNEL = gaussian([[2.0, 0.8], [0.8, 1.0]], 2)


def answer():
    """A super-resolved plane; its fathers have even sides, so that none of them loses a row."""
    return torch.rand(1, 1, 80, 120, generator=torch.Generator().manual_seed(5))


def make_pairs(views=(0,), trust=None):
    return SharpPairs(answer(), KERNEL, views, trust or Trust(), torch.Generator().manual_seed(0))


def test_every_view_of_every_father_is_degraded_by_the_kernel_itself():
    pairs = iter(make_pairs(views=tuple(range(8))).pairs)
    for size in FATHERS:
        for view in range(8):
            pair, father = next(pairs), dihedral(imresize(answer(), size), view)
            torch.testing.assert_close(pair.father, father)
            # Rounded to 8 bits, as photographs are.
            assert (255 * (pair.son - degrade(father, KERNEL.tensor(), 2))).abs().max() < 0.501
    assert next(pairs, None) is None


def test_crops_of_son_linear_image_and_father_show_the_same_place():
    pairs, side = make_pairs(), 6
    drawn = pairs.draw(1, side)
    places = [
        (pair, top, left)
        for pair in pairs.pairs
        for top in range(pair.son.shape[-2] - side + 1)
        for left in range(pair.son.shape[-1] - side + 1)
        if torch.equal(pair.son[..., top : top + side, left : left + side], drawn.son)
    ]
    assert len(places) == 1
    pair, top, left = places[0]
    rows, columns = slice(2 * top, 2 * (top + side)), slice(2 * left, 2 * (left + side))
    assert torch.equal(pair.father[..., rows, columns], drawn.father)
    assert torch.equal(pair.linear[..., rows, columns], drawn.linear)


def test_a_crop_larger_than_the_least_son_is_cut_to_it():
    assert make_pairs().draw(2, 64).son.shape == (2, 1, 24, 24)


def test_noise_changes_the_sons_and_not_the_fathers():
    quiet, noisy = make_pairs().pairs, make_pairs(trust=Trust(noise_sigma=0.1)).pairs
    for one, other in zip(quiet, noisy, strict=True):
        assert torch.equal(one.father, other.father)
        assert 0.08 < (one.son - other.son).std() < 0.12


def test_doubt_about_the_kernel_changes_the_sons_and_not_the_fathers():
    sure, doubtful = make_pairs().pairs, make_pairs(trust=Trust(kernel_error=0.04)).pairs
    for one, other in zip(sure, doubtful, strict=True):
        assert torch.equal(one.father, other.father)
        assert 0 < (one.son - other.son).std() < 0.1


def test_the_judged_patch_is_fixed_and_the_middle_of_a_father_that_is_not_trained_on():
    pairs = make_pairs(views=(0, 1))
    patch = pairs.judge(8)
    assert torch.equal(patch.father, pairs.judge(8).father)
    held_out = imresize(answer(), HELD_OUT)
    assert torch.equal(patch.father[:1], held_out[..., 12:28, 22:38])
    assert all(pair.father.shape[-2:] not in ((40, 60), (60, 40)) for pair in pairs.pairs)
