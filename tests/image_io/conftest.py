"""Shared by the tests of picture files."""

import pytest
import tifffile


@pytest.fixture
def without_imagecodecs(monkeypatch):
    """What tifffile does where imagecodecs is not installed."""

    def lacks(*_args, **_kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(lambda _page: lacks))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lacks)
