"""What all codecs share: third-party decoders neither print, nor log, nor change global limits."""

import os
import threading
import warnings

import pytest

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


def test_warnings_that_are_not_about_the_file_are_passed_on():
    """Those about programs, such as a file that the garbage collector closes, and those of other threads."""
    elsewhere = threading.Thread(target=lambda: warnings.warn("of another thread", UserWarning, stacklevel=1))
    with warnings.catch_warnings(record=True) as outside:
        warnings.simplefilter("always")
        with decoding() as logged:
            warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
            warnings.warn("use another function", DeprecationWarning, stacklevel=1)
            warnings.warn("of the decoder", UserWarning, stacklevel=1)
            elsewhere.start()
            elsewhere.join()
    assert logged == ["of the decoder"]
    assert [str(warning.message) for warning in outside] == [
        "unclosed file",
        "use another function",
        "of another thread",
    ]


def test_a_warning_that_is_an_error_is_no_damage_of_the_file():
    with pytest.raises(DeprecationWarning, match="use another"), decoding():
        warnings.warn("use another function", DeprecationWarning, stacklevel=1)
    shown = warnings.showwarning
    with decoding() as logged:
        warnings.warn("of the decoder", UserWarning, stacklevel=1)
    assert logged == ["of the decoder"]
    assert warnings.showwarning is shown
