"""Broken kernel files and specifications end in one clear line; the long campaign is benchmarks/fuzz_kernels.py."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from blindsr.errors import BlindSRError, ConfigError
from blindsr.kernels import gaussian, kernel_bytes
from blindsr.kernels.files import read_kernels
from blindsr.sensors import parse_sensor

KERNEL = gaussian([[2.0, 0.7], [0.7, 1.2]], 2)


def _seed(suffix):
    if suffix == ".mat":
        buffer = io.BytesIO()
        savemat(buffer, {"kernels": np.ones((5, 5, 2))}, do_compression=True)
        return buffer.getvalue()
    return kernel_bytes(KERNEL, suffix)


SEEDS = {suffix: _seed(suffix) for suffix in (".npz", ".npy", ".mat", ".txt", ".csv")}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from(sorted(SEEDS)))
def test_a_broken_kernel_file_is_read_or_refused_in_one_line(tmp_path, data, suffix):
    content = bytearray(SEEDS[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        change = data.draw(st.sampled_from(["byte", "cut", "insert", "end"]))
        if change == "byte" and content:
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif change == "insert":
            content[at:at] = data.draw(st.binary(max_size=12))
        else:
            del content[at:]
    path = tmp_path / f"k{suffix}"
    path.write_bytes(content)
    try:
        kernels, _, notes = read_kernels(path, scale=2)
    except BlindSRError as error:
        said = str(error)
    else:
        said = ""
        assert all(abs(kernel.array.sum() - 1) < 1e-6 for kernel in kernels)
        assert notes
    assert "\n" not in said


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
def test_a_wild_specification_is_read_or_refused_in_one_line(sensor, extra, junk):
    lines = ["[sensor]", *(f"{k} = {_toml(v)}" for k, v in sensor.items())]
    lines += ["[extra]", *(f"{k} = {_toml(v)}" for k, v in extra.items())] if extra else []
    for text in ("\n".join(lines), "\n".join(lines) + junk):
        try:
            parse_sensor(text, "wild").kernel(2)
        except ConfigError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_in_a_pickle_is_never_run(tmp_path, suffix):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    path = tmp_path / f"k{suffix}"
    array = np.array([[Trap()]], dtype=object)
    if suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, kernel=array)
    with pytest.raises(BlindSRError):
        read_kernels(path, scale=2)
    assert not (tmp_path / "trap").exists()
