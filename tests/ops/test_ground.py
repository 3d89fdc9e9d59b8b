"""The even ground of a page: where it is found, and where there is none."""

import numpy as np
import pytest
import torch
from skimage import data

from blindsr.ops.ground import ground_of
from tests.images import photograph


def test_the_ground_of_a_page_is_its_paper():
    rng = np.random.default_rng(0)
    ink = rng.random((1, 1, 90, 80)) < 0.3
    page = torch.from_numpy(np.where(ink, 0.2, 0.9) + 0.005 * rng.standard_normal(ink.shape))
    ground = ground_of(page)
    assert ground is not None
    assert torch.equal(ground, torch.from_numpy(~ink))
    assert torch.equal(ground_of(torch.cat([page, page.flip(-1)]))[1:], ground.flip(-1))


@pytest.mark.parametrize("name", ["astronaut", "coffee", "cat", "camera"])
def test_photographs_have_none(name):
    assert ground_of(photograph(200, 200, name=name, bands=1)) is None


def test_black_and_white_pages_have_one():
    assert ground_of(torch.from_numpy(data.text()[None, None] / 255)) is not None
    assert ground_of(torch.zeros(1, 1, 9, 9)).all()
