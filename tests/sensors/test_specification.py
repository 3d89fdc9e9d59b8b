import math

import numpy as np
import pytest

from blindsr.errors import ConfigError
from blindsr.kernels import gaussian
from blindsr.sensors import find_sensor, parse_sensor, shipped_sensor, shipped_sensors
from blindsr.sensors.keys import EXTRA, GROUPS, SENSOR
from blindsr.sensors.widths import sigma_from_edge_slope, sigma_from_fwhm, sigma_from_mtf, sigma_from_rer

LENS = "[sensor]\npitch_um = 3.76\nf_number = 8\nwavelength_um = 0.55\n"


def sigma_of(text):
    ((yy, yx), (_, xx)) = parse_sensor(text, "t").system().covariance
    assert yx == pytest.approx(0, abs=1e-12)
    return math.sqrt(yy), math.sqrt(xx)


def test_a_lens():
    system = parse_sensor(LENS + "fill_factor = 0.49\nobstruction = 0.2", "t").system()
    assert system.q == pytest.approx(0.55 * 8 / 3.76)
    assert system.detector == pytest.approx(0.7)
    assert system.obstruction == 0.2


@pytest.mark.parametrize(
    ("keys", "sigma"),
    [
        ("mtf_nyquist = 0.24", sigma_from_mtf(0.24)),
        ("mtf50_cy_per_px = 0.25", sigma_from_mtf(0.5, 0.25)),
        ("fwhm_px = 2", sigma_from_fwhm(2)),
        ("rer = 0.5", sigma_from_rer(0.5)),
        ("edge_slope_per_m = 0.03\ngsd_m = 30", sigma_from_edge_slope(0.03, 30)),
    ],
)
def test_every_published_number(keys, sigma):
    assert sigma_of(f"[sensor]\n{keys}") == pytest.approx((sigma, sigma))


def test_different_values_along_and_across():
    y, x = sigma_of("[sensor]\nmtf_nyquist = { along = 0.2, across = 0.3 }")
    assert (y, x) == pytest.approx((sigma_from_mtf(0.2), sigma_from_mtf(0.3)))
    y, x = sigma_of("[sensor]\nmtf_nyquist = { along = 0.2, across = 0.3 }\ntrack_deg = 0")
    assert (y, x) == pytest.approx((sigma_from_mtf(0.3), sigma_from_mtf(0.2)))


def test_a_turned_track_is_seen_at_its_angle():
    text = "[sensor]\nfwhm_px = { along = 3, across = 1.5 }\ntrack_deg = 30"
    assert parse_sensor(text, "t").kernel(2).kernel.angle == pytest.approx(30, abs=0.5)


def test_what_is_extra_is_added():
    text = LENS + "[extra]\nmotion_px = 2\nmotion_deg = 45\ndefocus_um = 30.08\njitter_px = 0.3\nlow_pass_px = 0.7"
    system = parse_sensor(text, "t").system()
    assert (system.motion, system.motion_angle, system.spots) == (2, 45, 0.7)
    assert system.defocus == pytest.approx(30.08 / (8 * 3.76))
    assert system.covariance == ((pytest.approx(0.09), 0), (0, pytest.approx(0.09)))


def test_bands_share_what_they_do_not_say():
    sensor = parse_sensor(
        LENS.replace("wavelength_um = 0.55\n", "") + "[bands.R]\nwavelength_um = 0.6\n[bands.B]\nwavelength_um = 0.45",
        "t",
    )
    assert sensor.bands == ("R", "B")
    assert sensor.system("R").q == pytest.approx(0.6 * 8 / 3.76)
    with pytest.raises(ConfigError, match="name one, as in NAME:R"):
        sensor.system()
    with pytest.raises(ConfigError, match="has the bands R, B, band 'G' was asked for"):
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
        ("[sensor]\npitch = 3", r"sensor\.pitch is no key .*did you mean pitch_um \(distance of .*, µm\)\?"),
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
            r"fill_factor \(no unit\) does not go with an MTF at Nyquist: a published figure contains it",
        ),
        ("[sensor]\npitch_um = 3\nf_number = 8", r"sensor\.wavelength_um \(wavelength, µm\) is missing for a lens"),
        ("[sensor]\nedge_slope_per_m = 3", r"sensor\.gsd_m \(ground sample distance, m\) is missing"),
        ("[sensor]", r"must specify the sensor by one of: pitch_um \(µm\)"),
        ("", r"must specify the sensor by one of"),
        ("mtf_nyquist = 0.2", r"which is no table of a sensor specification; put it under \[sensor\]"),
        ("[sensors]\nrer = 0.3", r"'sensors', which is no table.*known are \[sensor\]"),
        ("[[sensor]]", r"must be a table"),
        ("sensor = 3", r"must be a table"),
        ("[sensor]\nrer = '0.3'", r"rer \(relative edge response, no unit\) must be a number, got '0.3'"),
        ("[sensor]\nrer = true", r"must be a number, got True"),
        ("[sensor]\nrer = nan", r"must be a number, got nan"),
        ("[sensor]\nrer = { along = 0.3 }", r"one number or \{ along = …, across = … \}, it has along"),
        (LENS + "obstruction = { along = 0.3, across = 0.2 }", r"cannot differ along and across"),
        ("[sensor]\nfwhm_px = 2\n[extra]\ndefocus_um = 3", r"defocus_um \(µm\) needs sensor\.f_number"),
        (
            "[sensor]\nfwhm_px = 2\n[extra]\nmotion_deg = 3",
            r"motion_deg \(degrees\) has no meaning without extra\.motion_px",
        ),
        (LENS + "[extra]\ndefocus_um = 3\ndefocus_px = 3", r"contradict each other"),
        (LENS + "[extra]\nblur_px = 3", r"extra\.blur_px is no key"),
        (
            "[sensor]\nna = 0.8\nwavelength_um = 0.5\ncamera_pixel_um = 6.5\nmagnification = 20\nbinning = 1.5",
            "whole number, got 1.5",
        ),
        ("[sensor]\nrer = 0.3\n[kernel]\nmodel = 'sharp'", r"kernel\.model must be psf or ratio, got 'sharp'"),
        ("[sensor]\nrer = 0.3\n[kernel]\nside = 3", r"kernel\.side is no key"),
        ("[sensor]\nrer = 0.3\nencoding = 'log'", r"encoding must be linear .* or srgb, got 'log'"),
        ("[sensor]\nname = 3\nrer = 0.3", r"sensor\.name must be text"),
        ("[sensor]\nrer = 0.3\n[bands.'a b']\n", r"must have no blank"),
        ("[sensor]\nfwhm_px = 49", r"blur of σ 20.8 LR pixels, which is over 20; check the units"),
        ("[sensor\n", "is no valid TOML"),
        ("x = " + "[" * 5000, "is no valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_key_and_unit(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_sensor(text, "t.toml")
    assert "\n" not in str(caught.value)


def test_every_key_belongs_to_some_way_and_has_a_unit():
    used = {key for group in GROUPS.values() for key in (*group.needs, *group.may)}
    assert used == set(SENSOR)
    assert all(key.unit and key.meaning for key in (SENSOR | EXTRA).values())


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
    with pytest.raises(ConfigError, match="has no bands, band 'R' was asked for"):
        find_sensor(f"{path}:R")
    (tmp_path / "latin.toml").write_bytes("# ä".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot be read as text in UTF-8"):
        find_sensor(str(tmp_path / "latin.toml"))
