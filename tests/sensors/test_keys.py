import math

import pytest

from blindsr.sensors import parse_sensor
from blindsr.sensors.catalogue import EXTRA, GROUPS, SENSOR
from blindsr.sensors.transfer import sigma_from_edge_slope, sigma_from_fwhm, sigma_from_mtf, sigma_from_rer

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


def test_the_extra_table_is_added():
    text = LENS + "[extra]\nmotion_px = 2\nmotion_deg = 45\ndefocus_um = 30.08\njitter_px = 0.3\nlow_pass_px = 0.7"
    system = parse_sensor(text, "t").system()
    assert (system.motion, system.motion_angle, system.spots) == (2, 45, 0.7)
    assert system.defocus == pytest.approx(30.08 / (8 * 3.76))
    assert system.covariance == ((pytest.approx(0.09), 0), (0, pytest.approx(0.09)))


def test_every_key_belongs_to_some_way_and_has_a_unit():
    used = {key for group in GROUPS.values() for key in (*group.required, *group.optional)}
    assert used | {"track_deg"} == set(SENSOR)
    assert all(key.unit and key.meaning for key in (SENSOR | EXTRA).values())
