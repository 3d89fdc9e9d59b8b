"""What import-linter (pyproject.toml) does not hold: when heavy packages are loaded, names of files, sizes."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "blindsr"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc"}
WITHOUT_TORCH = [
    "blindsr",
    "blindsr.kernels",
    "blindsr.sensors",
    "blindsr.image_io",
    "blindsr.evaluation.metrics",
    "blindsr.registry",
    "blindsr.settings",
    "blindsr.cli.main",
]


def test_a_module_that_needs_no_torch_does_not_load_it():
    """One process for all of them: what one loads would be found after it."""
    code = "import importlib, sys\n"
    code += f"for name in {WITHOUT_TORCH!r}: importlib.import_module(name); print(name, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"{name} False" for name in WITHOUT_TORCH]


def test_what_is_trained_on_a_photograph_does_not_load_the_compiler_of_torch():
    """`torch.optim` does, in a second (blindsr/ops/adam.py): it is for the making of weights alone."""
    users = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "torch.optim" in path.read_text("utf-8")}
    making = {user for user in users if user.parts[0] == "training"}
    assert users - making == {Path("ops/adam.py")}
    assert making


def test_no_file_has_a_name_that_says_nothing():
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem.strip("_") in FORBIDDEN_NAMES]


def test_every_module_has_a_docstring_and_the_package_does_not_print():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), path
        if "cli" not in path.parts:
            assert "print(" not in text.replace("pprint(", ""), path


def test_tests_mirror_the_package():
    """Every folder of tests has its namesake in the package."""
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path()}
    assert {folder for folder in folders if not (PACKAGE / folder).is_dir()} == set()
