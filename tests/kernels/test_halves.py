"""What estimates from halves of a photograph tell of an estimate."""

import io

import numpy as np
import pytest
from PIL import Image

from blindsr.kernels import Kernel, gaussian, kernel_bytes, kernel_picture, read_kernel
from blindsr.kernels.halves import Halves, halves_of, with_halves

ONE = gaussian([[3.0, 0.8], [0.8, 1.5]], 2)
WIDER = gaussian([[3.6, 0.8], [0.8, 1.8]], 2)


def test_equal_halves_leave_no_doubt():
    halves = Halves.measured([(ONE, ONE)])
    assert halves.likeness == pytest.approx(1)
    assert halves.spread == 0
    assert halves.doubts == (0, 0)


def test_the_more_the_halves_differ_the_more_doubt_there_is():
    near, far = Halves.measured([(ONE, WIDER)]), Halves.measured([(ONE, gaussian(9.0, 2))])
    assert far.likeness < near.likeness < 1
    assert 0 < near.spread < far.spread < 1
    widths = np.array([kernel.sigmas for kernel in (ONE, WIDER)])
    assert near.doubts == pytest.approx(tuple(widths.std(0)))


def test_figures_and_words_tell_the_same():
    halves = Halves.measured([(ONE, WIDER), (WIDER, ONE)])
    assert set(halves.figures) == {"halves_ncc", "halves_spread", "halves_sd_long", "halves_sd_short"}
    assert f"±{halves.figures['halves_sd_long']:.2f} px along" in str(halves)
    assert str(halves).startswith("4 halves")


def test_a_kernel_file_keeps_them(tmp_path):
    halves = Halves.measured([(ONE, WIDER)])
    path = tmp_path / "k.npz"
    path.write_bytes(kernel_bytes(with_halves(ONE, halves), ".npz"))
    read = halves_of(read_kernel(path, scale=2)[0])
    assert read.covariances == pytest.approx(halves.covariances, abs=1e-4)
    assert read.likeness == pytest.approx(halves.likeness, abs=1e-4)


def test_of_a_kernel_that_was_changed_they_tell_nothing():
    noted = with_halves(ONE, Halves.measured([(ONE, WIDER)]))
    assert halves_of(noted) is not None
    assert halves_of(Kernel(WIDER.array, 2, noted.provenance)) is None
    assert halves_of(ONE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"covariance_yx": "wide"},
        {"covariance_yx": [[1.0, 0.0], [0.0, 1.0]]},
        {"covariance_yx": [[[1.0, 0.0], [0.0, 1.0]]]},
        {"covariance_yx": [[[np.nan, 0.0], [0.0, 1.0]]] * 2},
        {"likeness": None},
    ],
)
def test_nonsense_in_a_file_is_not_believed(change):
    noted = with_halves(ONE, Halves.measured([(ONE, WIDER)])).provenance["halves"]
    assert halves_of(Kernel(ONE.array, 2, {"halves": {**noted, **change}})) is None


def test_the_picture_shows_them():
    def pixels(kernel):
        return np.array(Image.open(io.BytesIO(kernel_picture(kernel)))).astype(int)

    far = gaussian(6.0, 2)
    plain, sure, doubtful = (
        pixels(kernel)
        for kernel in (
            ONE,
            with_halves(ONE, Halves.measured([(ONE, ONE)])),
            with_halves(ONE, Halves.measured([(far, far)])),
        )
    )
    # One line more: the last one has moved down.
    last = np.s_[922:950, 70:1450]
    assert (plain[last] == 255).all()
    assert not (sure[last] == 255).all()
    # The ring of σ = √6 px, to the right of the centre, on a field of 16 px across 620.
    at = np.s_[405:415, 395 + int(np.sqrt(6) * 620 / ONE.size) : 405 + int(np.sqrt(6) * 620 / ONE.size)]
    assert (doubtful[at].min(-1) > 200).any()
    assert not (sure[at].min(-1) > 200).any()
