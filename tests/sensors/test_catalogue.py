import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindsr.errors import ConfigError
from blindsr.kernels import Kernel, gaussian
from blindsr.sensors import find_sensor, kernel_from_sensor, parse_sensor, shipped_sensor, shipped_sensors
from blindsr.sensors.transfer import sigma_from_mtf

LENS = "[sensor]\npitch_um = 3.76\nf_number = 8\nwavelength_um = 0.55\n"


def test_bands_share_the_keys_of_the_sensor():
    sensor = parse_sensor(
        LENS.replace("wavelength_um = 0.55\n", "") + "[bands.R]\nwavelength_um = 0.6\n[bands.B]\nwavelength_um = 0.45",
        "t",
    )
    assert sensor.bands == ("R", "B")
    assert sensor.system("R").q == pytest.approx(0.6 * 8 / 3.76)
    with pytest.raises(ConfigError, match="name one, as in NAME:R"):
        sensor.system()
    with pytest.raises(ConfigError, match="has the bands R, B, band 'G' was requested"):
        sensor.system("G")


def test_the_kernel_table_decides_model_and_size():
    sensor = parse_sensor("[sensor]\nmtf_nyquist = 0.24\n[kernel]\nmodel = 'psf'\nsize_px = 14", "t")
    kernel = sensor.kernel(2).kernel
    assert kernel.size == 14
    np.testing.assert_allclose(kernel.covariance, gaussian(4 * sigma_from_mtf(0.24) ** 2, 2).covariance, atol=0.01)
    assert sensor.kernel(2, model="ratio").kernel.sigmas < kernel.sigmas


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sensor]\npitch = 3", r"sensor\.pitch is not a key .*did you mean pitch_um \(pixel pitch of .*, µm\)\?"),
        ("[sensor]\nmtf_nyquist = 24", r"mtf_nyquist .*from 0.0001 to 0.99, got 24; 24 % is 0.24"),
        (
            LENS.replace("0.55", "550"),
            r"wavelength_um \(wavelength, µm\) must be from 0.01 to 100, got 550; 550 nm are 0.55 µm",
        ),
        (
            "[sensor]\nmtf_nyquist = 0.24\nfwhm_px = 2",
            r"sensor\.mtf_nyquist \(no unit\) and sensor\.fwhm_px \(LR pixels\) contradict",
        ),
        (LENS + "mtf_nyquist = 0.2", r"pitch_um \(µm\) and sensor\.mtf_nyquist \(no unit\) contradict"),
        (
            "[sensor]\nmtf_nyquist = 0.24\nfill_factor = 0.5",
            r"fill_factor \(no unit\) does not go with an MTF at Nyquist: a published value contains it",
        ),
        ("[sensor]\npitch_um = 3\nf_number = 8", r"sensor\.wavelength_um \(wavelength, µm\) is missing for a lens"),
        ("[sensor]\nedge_slope_per_m = 3", r"sensor\.gsd_m \(ground sample distance, m\) is missing"),
        ("[sensor]", r"must specify the sensor by one of: pitch_um \(µm\)"),
        ("", r"must specify the sensor by one of"),
        ("mtf_nyquist = 0.2", r"which is not a table of a sensor specification; put it under \[sensor\]"),
        ("[sensors]\nrer = 0.3", r"'sensors', which is not a table.*the known tables are \[sensor\]"),
        ("[[sensor]]", r"must be a table"),
        ("sensor = 3", r"must be a table"),
        ("[sensor]\nrer = '0.3'", r"rer \(relative edge response, no unit\) must be a number, got '0.3'"),
        ("[sensor]\nrer = true", r"must be a number, got True"),
        ("[sensor]\nrer = nan", r"must be a number, got nan"),
        ("[sensor]\nrer = { along = 0.3 }", r"one number or \{ along = …, across = … \}, it has along"),
        (LENS + "obstruction = { along = 0.3, across = 0.2 }", r"must be one number for along and across"),
        ("[sensor]\nfwhm_px = 2\n[extra]\ndefocus_um = 3", r"defocus_um \(µm\) needs sensor\.f_number"),
        (
            "[sensor]\nfwhm_px = 2\n[extra]\nmotion_deg = 3",
            r"motion_deg \(degrees\) has no effect without extra\.motion_px",
        ),
        (LENS + "[extra]\ndefocus_um = 3\ndefocus_px = 3", r"contradict each other"),
        (LENS + "[extra]\nblur_px = 3", r"extra\.blur_px is not a key"),
        (
            "[sensor]\nna = 0.8\nwavelength_um = 0.5\ncamera_pixel_um = 6.5\nmagnification = 20\nbinning = 1.5",
            "whole number, got 1.5",
        ),
        ("[sensor]\nrer = 0.3\n[kernel]\nmodel = 'sharp'", r"kernel\.model must be psf or ratio, got 'sharp'"),
        ("[sensor]\nrer = 0.3\n[kernel]\nside = 3", r"kernel\.side is not a key"),
        ("[sensor]\nrer = 0.3\nencoding = 'log'", r"encoding must be linear .* or srgb, got 'log'"),
        ("[sensor]\nname = 3\nrer = 0.3", r"sensor\.name must be text"),
        ("[sensor]\nrer = 0.3\n[bands.'a b']\n", r"must have no blank"),
        ("[sensor]\nfwhm_px = 49", r"blur of FWHM 49 LR pixels, more than 47; check the units"),
        ("[sensor\n", "is not valid TOML"),
        ("x = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_an_error_names_key_and_unit(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sensor(text, "t.toml")
    assert "\n" not in str(caught.value)


_VALUES = st.one_of(
    st.floats(),
    st.integers(-(10**30), 10**30),
    st.booleans(),
    st.text(max_size=5),
    st.just({"along": 0.2, "across": 0.3}),
    st.lists(st.integers(), max_size=2),
)
_KEYS = st.sampled_from(
    ["pitch_um", "f_number", "wavelength_um", "mtf_nyquist", "fwhm_px", "na", "binning", "x", "name"]
)


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + "".join(c for c in value if c.isprintable() and c != "'") + "'"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {v}" for k, v in value.items()) + " }"
    return str(value)


@settings(max_examples=80, deadline=None)
@given(
    sensor=st.dictionaries(_KEYS, _VALUES, max_size=4),
    extra=st.dictionaries(st.sampled_from(["motion_px", "defocus_px", "jitter_px", "y"]), _VALUES, max_size=2),
    junk=st.text(max_size=8),
)
def test_a_random_specification_is_read_or_refused_in_one_line(sensor, extra, junk):
    lines = ["[sensor]", *(f"{k} = {_toml(v)}" for k, v in sensor.items())]
    lines += ["[extra]", *(f"{k} = {_toml(v)}" for k, v in extra.items())] if extra else []
    for text in ("\n".join(lines), "\n".join(lines) + junk):
        try:
            parse_sensor(text, "random").kernel(2)
        except ConfigError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message


def test_the_name_of_a_band_is_found_with_leading_zeros_and_in_any_case():
    sensor = parse_sensor("[bands.B4]\nrer = 0.4\n[bands.b4]\nrer = 0.5\n[bands.B10]\nrer = 0.3", "t")
    assert [sensor.band_name(text) for text in ("B4", "b4", "b010", "B010")] == ["B4", "b4", "B10", "B10"]
    assert parse_sensor("[bands.B4]\nrer = 0.4", "t").band_name("B04") == "B4"
    with pytest.raises(ConfigError, match="band 'B1' was requested"):
        sensor.band_name("B1")


LENS = "[sensor]\npitch_um = 3.76\nf_number = 8\nwavelength_um = 0.55\n"


@pytest.mark.parametrize("name", shipped_sensors())
def test_every_shipped_sensor_names_its_source_and_gives_kernels(name):
    sensor = shipped_sensor(name)
    assert sensor.source
    for band in sensor.bands or (None,):
        for scale in (2, 3, 4):
            assert sensor.kernel(scale, band=band).kernel.provenance["sensor"] == sensor.name


def test_sentinel_2_has_the_values_that_two_sources_agree_on():
    sensor = shipped_sensor("sentinel2")
    found = {band: round(sensor.system(band).nyquist()[0], 6) for band in sensor.bands}
    assert found == {"B2": 0.26, "B3": 0.28, "B4": 0.24, "B8": 0.26}


def test_the_shipped_camera_is_the_one_of_the_literature():
    assert shipped_sensor("fullframe").system("G").q == pytest.approx(0.54 * 8 / 3.76)


def test_sensors_are_found_by_name_file_and_band(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(LENS, encoding="utf-8")
    assert find_sensor(str(path))[0].name == "mine"
    assert find_sensor("sentinel2:B4,B3")[1] == ("B4", "B3")
    with pytest.raises(
        ConfigError, match=r"must be one of fullframe, phone, sentinel2, widefield, or a spec.* got 'nikon'"
    ):
        find_sensor("nikon")
    with pytest.raises(ConfigError, match="is missing"):
        find_sensor(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="has no bands, band 'R' was requested"):
        find_sensor(f"{path}:R")
    (tmp_path / "latin.toml").write_bytes("# ä".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read as text in UTF-8"):
        find_sensor(str(tmp_path / "latin.toml"))


def test_a_sensor_gives_one_kernel_or_one_for_each_band():
    one, notes = kernel_from_sensor("sentinel2:B4", 2)
    assert isinstance(one, Kernel)
    assert notes == ("kernel of Sentinel-2 MSI, band B4: model ratio, 10×10 px.",)
    several, notes = kernel_from_sensor("sentinel2:B4,B3,B2", 2, model="psf")
    assert several.names == ("B4", "B3", "B2")
    assert "model psf, 10×10 px; one for each of B4, B3, B2." in notes[0]
    assert kernel_from_sensor("fullframe", 2)[0].names == ("R", "G", "B")


@pytest.mark.parametrize("text", ["sentinel2:B04", "Sentinel-2:B4", "sentinel_2:b4", "SENTINEL 2: B04"])
def test_other_spellings_of_a_sensor_and_its_bands_are_known(text):
    sensor, bands = find_sensor(text)
    assert (sensor.name, bands) == ("Sentinel-2 MSI", ("B4",))
    kernel, _ = kernel_from_sensor(text, 2)
    assert kernel.provenance["band"] == "B4"
    assert kernel.digest == kernel_from_sensor("sentinel2:B4", 2)[0].digest


def test_a_band_that_is_missing_on_purpose_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"B8, band 'B8A' was requested \(only the 10 m bands, on which two"):
        find_sensor("sentinel2:B8A")
