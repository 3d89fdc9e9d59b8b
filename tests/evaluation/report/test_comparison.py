import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import ImageError, OutputError
from blindsr.evaluation.report.comparison import Entry, View, anchor, comparison, report_for_photo, report_path
from blindsr.kernels import gaussian

RECORD = {
    "kernel": {"scale": 2},
    "estimate": {"method": "spectral"},
    "settings": {"scale": 2.0},
    "timings": {"kernel": 1.0},
    "versions": {"blindsr": "1.2.3"},
    "finished": "2026-11-28T12:00:00+00:00",
    "consistency": {"psnr_db": 51.23},
    "precision": "float32",
    "seconds": 3.25,
    "warnings": ["the image is <rather> flat."],
}
KERNEL = gaussian([[1.0, 0.0], [0.0, 4.0]], 2)


@pytest.fixture
def files(tmp_path):
    """A photograph of 40×48 px, and an SR image."""
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:116:2, 200:280:2])).save(tmp_path / "photo.png")
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:116, 200:280])).save(tmp_path / "sr.png")
    return tmp_path / "photo.png", tmp_path / "sr.png"


def test_the_report_on_a_photograph_has_its_facts(files, tmp_path):
    page = report_for_photo(*files, KERNEL, RECORD, tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    assert "Super-resolved to 80×96 px in 3.2 s. The kernel was estimated by spectral: FWHM 4.71 px along 0°" in text
    assert "blindsr 1.2.3 · ×2 · 2026-11-28" in text
    assert "51.2 dB" in text
    assert "the image is &lt;rather&gt; flat." in text
    assert text.count("<img") == 2 + 2 + 1, "two views, a crop of each, and the kernel"
    assert "http" not in text


def test_a_given_kernel_and_a_perfect_result_are_described(files, tmp_path):
    record = {name: value for name, value in RECORD.items() if name != "estimate"}
    record["consistency"] = {"psnr_db": None}
    text = report_for_photo(*files, KERNEL, record, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "The kernel was given: FWHM 4.71 px" in text
    assert "∞ dB" in text


def test_an_existing_report_is_replaced_only_if_asked(files, tmp_path):
    page = report_for_photo(*files, KERNEL, RECORD, tmp_path / "a.html")
    with pytest.raises(OutputError):
        report_for_photo(*files, KERNEL, RECORD, page)
    assert report_for_photo(*files, KERNEL, RECORD, page, overwrite=True) == page


def test_a_missing_photograph_is_an_error(files, tmp_path):
    with pytest.raises(ImageError):
        report_for_photo(tmp_path / "none.png", files[1], KERNEL, RECORD, tmp_path / "a.html")


def test_the_report_is_beside_the_result(tmp_path):
    assert report_path(tmp_path / "photo.jpg", "x2") == tmp_path / "photo_blindsr_x2.html"
    assert report_path(tmp_path / "photo.jpg", "x2", tmp_path / "out" / "large.tif") == tmp_path / "out" / "large.html"


def test_an_anchor_is_a_valid_id():
    assert anchor("a & b.c") == "image-a---b-c"


def test_views_without_kernels_show_none(rng):
    views = tuple(
        View(method=name, label=name, pixels=rng.integers(0, 255, (40, 37, 1)).astype(np.uint8), colour=0)
        for name in ("first", "second")
    )
    html = comparison(Entry(name="noise", views=views, left="first", right="second"))
    assert "Kernels" not in html
    assert 'class="left" data-method="first"' in html
