"""The arrows of the package, held by its syntax trees: who may import whom, and what is imported when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "blindsr"

GROUND = {"errors", "events"}
OPERATORS = {"ops", "kernels", "runtime"}
# Room: the rooms that it may import, besides itself. A room that is not named may import all but cli.
MAY_IMPORT = {
    "errors": set(),
    "events": set(),
    "runtime": GROUND,
    "ops": GROUND,
    "kernels": GROUND,
    "image_io": GROUND,
    "metrics": GROUND | OPERATORS,
    "kernelgan": GROUND | OPERATORS,
    "spectral": GROUND | OPERATORS,
    "l0": GROUND | OPERATORS,
    "zssr": GROUND | OPERATORS,
    "simulation": GROUND | OPERATORS,
    "sensors": GROUND | {"kernels", "ops"},
}
# Third-party package: where it may be imported.
ONLY_IN = {
    "click": ("cli",),
    "rich": ("cli",),
    "PIL": ("image_io", "kernels.picture"),
    "tifffile": ("image_io",),
    "imageio": ("image_io",),
    "imagecodecs": ("image_io",),
    "pillow_heif": ("image_io",),
    "rawpy": ("image_io",),
    "h5py": ("kernels.matlab",),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc"}
WITHOUT_TORCH = [
    "blindsr",
    "blindsr.kernels",
    "blindsr.sensors",
    "blindsr.image_io",
    "blindsr.metrics",
    "blindsr.cli.main",
]


def imported(tree):
    """Every module that a file imports, wherever in the file, with dots; `from a import b` counts as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(module, places):
    return any(module == place or module.startswith(place + ".") for place in places)


def faults(module, source):
    """What the rules have against a file; `module` is its name below blindsr, such as "zssr.network"."""
    tree = ast.parse(source)
    room = module.split(".")[0]
    found = []
    for name in imported(tree):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if name.startswith("."):
            found.append(f"{module} imports {name} relatively")
        elif root in ONLY_IN and not within(module, ONLY_IN[root]):
            found.append(f"{module} imports {root}, which belongs into {' and '.join(ONLY_IN[root])}")
        elif root == "torchvision":
            found.append(f"{module} imports torchvision")
        elif root == "blindsr" and target not in (room, "__version__"):
            if target == "cli" and room != "__main__":
                found.append(f"{module} imports cli")
            elif target not in MAY_IMPORT.get(room, {target}):
                found.append(f"{module} imports {target}")
    if not within(module, ("cli",)):
        calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))
        found += [f"{module} prints" for call in calls if call.func.id == "print"]
    if FORBIDDEN_NAMES & set(module.split(".")):
        found.append(f"{module} is named after nothing")
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_the_arrows_go_one_way():
    found = [fault for module, path in modules() for fault in faults(module, path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_the_whole_package_was_looked_at():
    names = {module for module, _ in modules()}
    assert {"", "ops.degrade", "kernels.kernel", "kernelgan", "spectral", "zssr", "pipelines", "cli"} <= names


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("zssr.network", "from blindsr.kernelgan import estimate_kernel", "zssr.network imports kernelgan"),
        ("kernelgan.estimator", "import blindsr.spectral.fit", "kernelgan.estimator imports spectral"),
        ("spectral.fit", "def f():\n    from blindsr import zssr", "spectral.fit imports zssr"),
        ("ops.resize", "from blindsr.kernels import Kernel", "ops.resize imports kernels"),
        ("errors", "from blindsr.events import Event", "errors imports events"),
        ("zssr.paper", "from blindsr.metrics import psnr", "zssr.paper imports metrics"),
        ("kernels.files", "from blindsr.image_io import write", "kernels.files imports image_io"),
        ("image_io.read", "from blindsr import estimate_kernel", "image_io.read imports estimate_kernel"),
        ("pipelines.blind", "from blindsr.cli.main import main", "pipelines.blind imports cli"),
        ("pipelines.blind", "import rich.progress", "pipelines.blind imports rich, which belongs into cli"),
        (
            "ops.resize",
            "from PIL import Image",
            "ops.resize imports PIL, which belongs into image_io and kernels.picture",
        ),
        (
            "kernels.files",
            "import PIL.Image",
            "kernels.files imports PIL, which belongs into image_io and kernels.picture",
        ),
        ("zssr.network", "import torchvision", "zssr.network imports torchvision"),
        ("zssr.network", "from .config import X", "zssr.network imports .config.X relatively"),
        ("zssr.network", "print('done')", "zssr.network prints"),
        ("zssr.utils", "", "zssr.utils is named after nothing"),
    ],
)
def test_a_wrong_arrow_is_found(module, source, fault):
    assert faults(module, source) == [fault]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zssr.network", "import torch\nfrom blindsr.ops import degrade\nfrom blindsr.zssr.config import X"),
        ("kernels.picture", "from PIL import Image"),
        ("cli.main", "import click\nfrom blindsr.pipelines import blind\nprint(1)"),
        ("image_io.write", "from blindsr import __version__"),
        ("pipelines.blind", "from blindsr.zssr import upscale_paper\nfrom blindsr.image_io import read"),
    ],
)
def test_a_right_arrow_is_not_found_fault_with(module, source):
    assert faults(module, source) == []


def exists(module):
    path = PACKAGE.parent / Path(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("module", [name for name in WITHOUT_TORCH if exists(name)])
def test_importing_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"import {module} loads torch, or fails: {done.stderr}"
