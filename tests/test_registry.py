"""The registries of methods."""

import dataclasses
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import blindsr
from blindsr import registry
from blindsr.errors import ConfigError
from blindsr.registry import ESTIMATORS, UPSCALERS, source_digest


@pytest.mark.parametrize("methods", [ESTIMATORS, UPSCALERS])
def test_every_method_keeps_the_protocol(methods):
    for name in methods.names():
        method = methods.get(name)
        assert method.name == name
        assert dataclasses.is_dataclass(method.config_type)
        assert method.config_type.__dataclass_params__.frozen
        method.config_type()  # every field has a default
        assert set(method.scales) <= set(range(1, 9))
        instance = methods.create(name)
        assert isinstance(instance.config, method.config_type)
        assert len(methods.describe(name)) > 20
        if methods is ESTIMATORS:
            assert method.min_side >= 1
            assert 0 <= method.kernel_error < 1
        else:
            assert isinstance(method.needs_whole_image, bool)
            assert method.min_side(2) >= 1


def test_names_are_unique_over_both_registries_but_for_the_baseline():
    assert set(ESTIMATORS.names()) & set(UPSCALERS.names()) == {"bicubic"}


def test_a_description_is_the_first_line_of_the_docstring():
    for methods in (ESTIMATORS, UPSCALERS):
        for name in methods.names():
            assert methods.describe(name) == methods.get(name).__doc__.strip().splitlines()[0]
    assert blindsr.list_estimators()["spectral"] == ESTIMATORS.describe("spectral")
    assert set(blindsr.list_upscalers()) == set(UPSCALERS.names())


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"estimator must be one of auto, .*, got 'guess'"):
        ESTIMATORS.get("guess")


def test_a_method_can_be_added_in_a_process_but_not_twice():
    class Toy(UPSCALERS.get("bicubic")):
        """A toy upscaler for this test."""

        name = "toy"

    UPSCALERS.register("toy", Toy)
    try:
        assert "toy" in UPSCALERS.names()
        assert UPSCALERS.describe("toy") == "A toy upscaler for this test."
        assert isinstance(UPSCALERS.create("toy"), Toy)
        with pytest.raises(ConfigError, match="exists already"):
            UPSCALERS.register("toy", Toy)
    finally:
        UPSCALERS.unregister("toy")
    assert "toy" not in UPSCALERS.names()


def test_a_method_whose_module_is_missing_says_so():
    broken = registry.Registry("estimator", "blindsr.no-such-group", {"x": "blindsr.no_such_module:X"})
    with pytest.raises(ConfigError, match="no_such_module"):
        broken.get("x")


def test_the_digest_of_the_source_changes_with_any_file_that_decides_a_result(tmp_path, monkeypatch):
    package = Path(registry.__file__).parent
    for folder in registry._METHOD_FOLDERS:
        assert any((package / folder).rglob("*.py")), folder
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "method.py").write_text("pass")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    source_digest.cache_clear()
    before = source_digest()
    for folder in registry._METHOD_FOLDERS:
        (tmp_path / folder / "deep" / "method.py").write_text(f"pass  # {folder}")
        source_digest.cache_clear()
        assert source_digest() != before, folder
        before = source_digest()
    monkeypatch.undo()
    source_digest.cache_clear()


def test_the_digest_of_the_source_changes_with_a_method_of_another_package_that_is_edited_in_place(
    tmp_path, monkeypatch
):
    (tmp_path / "edited_method.py").write_text("pass")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("edited", "edited_method:Method", "blindsr.upscalers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    digests = []
    for text in ("pass", "pass  # edited"):
        (tmp_path / "edited_method.py").write_text(text)
        source_digest.cache_clear()
        digests.append(source_digest())
    assert digests[0] != digests[1]
    monkeypatch.undo()
    source_digest.cache_clear()
