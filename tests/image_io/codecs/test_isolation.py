"""What all codecs share: third-party decoders neither print, nor log, nor change global limits."""

import os
import warnings

from blindsr.image_io.codecs import decoding, unprinted


def test_what_a_decoder_prints_does_not_reach_the_terminal(capfd):
    with unprinted() as printed:
        os.write(2, b"libsomething: error\nPNG warning: tRNS: invalid\n")
    os.write(2, b"of the program\n")
    assert printed == ["libsomething: error", "PNG warning: tRNS: invalid"]
    assert capfd.readouterr() == ("", "of the program\n")


def test_what_another_thread_prints_meanwhile_is_passed_on(capfd):
    with unprinted() as printed:
        os.write(2, b"INFO:root:a request was served\nERROR: of a server\n")
    assert printed == []
    assert capfd.readouterr() == ("", "INFO:root:a request was served\nERROR: of a server\n")


def test_warnings_about_tags_that_are_not_used_are_not_reported(tmp_path):
    from PIL import TiffImagePlugin

    with decoding() as logged:
        warnings.warn("Metadata Warning, tag 33723 had too many entries: 8, expected 1", stacklevel=1)
        TiffImagePlugin.logger.error("GDAL_NODATA: x")
    assert logged == []


def test_what_decoders_log_becomes_a_note(tmp_path, capfd):
    from PIL import TiffImagePlugin

    with decoding() as said:
        TiffImagePlugin.logger.error("More samples per pixel than can be decoded: %s", 5)
    assert said == ["More samples per pixel than can be decoded: 5"]
    assert capfd.readouterr() == ("", "")
