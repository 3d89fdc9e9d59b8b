"""The pairs that the network is adapted to an image with."""

import torch

from blindsr.kernels import gaussian
from blindsr.ops import degrade, dihedral, imresize
from blindsr.upscalers.pretrained.adaptation import TARGET_SIZES, VALIDATION_SIZE, SharpPairs
from blindsr.upscalers.pretrained.conditioning import Conditioning

KERNEL = gaussian([[2.0, 0.8], [0.8, 1.0]], 2)


def prediction():
    """A super-resolved plane; its targets have even sides, so that none of them loses a row."""
    return torch.rand(1, 1, 80, 120, generator=torch.Generator().manual_seed(5))


def make_pairs(views=(0,), conditioning=None):
    return SharpPairs([prediction()], KERNEL, views, conditioning or Conditioning(), torch.Generator().manual_seed(0))


def test_every_view_is_used_and_every_target_degraded_by_the_kernel_itself():
    views = tuple(range(8))
    pairs = make_pairs(views=views).pairs
    targets = {(size, view): dihedral(imresize(prediction(), size), view) for size in TARGET_SIZES for view in views}
    used = []
    for pair in pairs:
        used += [name for name, target in targets.items() if torch.equal(pair.target, target)]
        # Rounded to 8 bits, as photographs are.
        assert (255 * (pair.lr - degrade(pair.target, KERNEL.tensor(), 2))).abs().max() < 0.501
    assert len(set(used)) == len(used) == len(pairs)
    assert {size for size, _ in used} == set(TARGET_SIZES)
    assert {view for _, view in used} == set(views)


def test_crops_of_all_parts_of_a_pair_show_the_same_place():
    pairs, side = make_pairs(), 6
    drawn = pairs.draw(1, side)
    places = [
        (pair, top, left)
        for pair in pairs.pairs
        for top in range(pair.lr.shape[-2] - side + 1)
        for left in range(pair.lr.shape[-1] - side + 1)
        if torch.equal(pair.lr[..., top : top + side, left : left + side], drawn.lr)
    ]
    assert len(places) == 1
    pair, top, left = places[0]
    rows, columns = slice(2 * top, 2 * (top + side)), slice(2 * left, 2 * (left + side))
    assert torch.equal(pair.target[..., rows, columns], drawn.target)
    assert torch.equal(pair.linear[..., rows, columns], drawn.linear)


def test_a_crop_larger_than_the_smallest_image_is_cut_to_it():
    assert make_pairs().draw(2, 64).lr.shape == (2, 1, 24, 24)


def test_noise_changes_the_degraded_images_and_not_the_targets():
    quiet, noisy = make_pairs().pairs, make_pairs(conditioning=Conditioning(noise_sigma=0.1)).pairs
    for one, other in zip(quiet, noisy, strict=True):
        assert torch.equal(one.target, other.target)
        assert 0.08 < (one.lr - other.lr).std() < 0.12


def test_an_uncertain_kernel_changes_the_degraded_images_and_not_the_targets():
    certain, uncertain = make_pairs().pairs, make_pairs(conditioning=Conditioning(kernel_error=0.04)).pairs
    for one, other in zip(certain, uncertain, strict=True):
        assert torch.equal(one.target, other.target)
        assert 0 < (one.lr - other.lr).std() < 0.1


def test_the_validation_patch_is_fixed_and_never_trained_on():
    pairs = make_pairs(views=(0, 1))
    patch = pairs.validation(8)
    assert torch.equal(patch.target, pairs.validation(8).target)
    validation = imresize(prediction(), VALIDATION_SIZE)
    assert torch.equal(patch.target[:1], validation[..., 12:28, 22:38])
    assert all(pair.target.shape[-2:] not in ((40, 60), (60, 40)) for pair in pairs.pairs)


def test_pairs_of_a_colour_image_have_luma_and_chroma_with_their_noise():
    colour = torch.rand(1, 3, 80, 120, generator=torch.Generator().manual_seed(5))
    levels = Conditioning(noise_sigma=0.02, chroma_sigma=0.08)
    quiet, noisy = (
        SharpPairs([colour], KERNEL, (0,), conditioning, torch.Generator().manual_seed(0)).pairs[0]
        for conditioning in (Conditioning(), levels)
    )
    assert quiet.lr.shape[1] == quiet.target.shape[1] == 3
    assert quiet.linear.shape[1] == 4
    spread = (noisy.lr - quiet.lr).std((0, 2, 3))
    assert torch.allclose(spread, torch.tensor([0.02, 0.08, 0.08]), rtol=0.15)


def test_an_uncertain_kernel_blurs_luma_and_chroma_alike():
    colour = torch.rand(1, 3, 80, 120, generator=torch.Generator().manual_seed(5))
    same, uncertain = colour[:, :1].expand(1, 3, 80, 120), Conditioning(kernel_error=0.1)
    for image in (colour, same):
        pair = SharpPairs([image], KERNEL, (0,), uncertain, torch.Generator().manual_seed(0)).pairs[0]
        assert pair.lr.shape[1] == pair.target.shape[1] == 3
    assert torch.equal(pair.lr[:, 0], pair.lr[:, 1])
    exact = SharpPairs([same], KERNEL, (0,), Conditioning(), torch.Generator().manual_seed(0)).pairs[0]
    assert 0.003 < float((pair.lr - exact.lr).std()) < 0.1
