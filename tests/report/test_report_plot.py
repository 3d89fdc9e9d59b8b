import importlib.util

import pytest

from blindsr.errors import ConfigError
from blindsr.report.plot import write_plots


def test_without_matplotlib_the_plot_says_what_is_missing(results, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'blindsr\[plot\]'"):
        write_plots(results)


def test_plots_are_written_and_repeat_themselves(results):
    pytest.importorskip("matplotlib")
    first = [path.read_bytes() for path in write_plots(results)]
    assert [content[:4] for content in first] == [b"%PDF", b"\x89PNG"]
    assert [path.read_bytes() for path in write_plots(results)] == first
