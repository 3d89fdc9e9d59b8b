"""Count the blindsr functions and modules that one run of the command enters: python benchmarks/traversal.py.

The run is `blindsr estimate-and-upscale photo.jpg --preset fast` on a crop of 160×120 px of examples/chelsea.png. Every
function counts once, without module and class bodies and comprehensions; the depth is the number of blindsr frames on
the deepest stack. `PYTHONPATH=OTHER python benchmarks/traversal.py` measures another version.
"""

import inspect
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType

from PIL import Image

import blindsr
from blindsr.cli.main import cli

PACKAGE = str(Path(blindsr.__file__).parent)


def main() -> None:
    counts: dict[CodeType, int] = {}
    deepest: list[CodeType] = []

    def is_function(code: CodeType) -> bool:
        has_name = not code.co_name.startswith("<") or code.co_name == "<lambda>"
        return bool(code.co_flags & inspect.CO_OPTIMIZED) and has_name and code.co_filename.startswith(PACKAGE)

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or not is_function(frame.f_code):
            return
        counts[frame.f_code] = counts.get(frame.f_code, 0) + 1
        stack: list[CodeType] = []
        outer: FrameType | None = frame
        while outer is not None:
            if is_function(outer.f_code):
                stack.append(outer.f_code)
            outer = outer.f_back
        if len(stack) > len(deepest):
            deepest[:] = stack

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        with Image.open(Path(__file__).parents[1] / "examples" / "chelsea.png") as image:
            image.convert("RGB").crop((120, 60, 280, 180)).save(photo)
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            cli(["estimate-and-upscale", str(photo), "--preset", "fast", "--quiet"], standalone_mode=False)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    modules = {code.co_filename for code in counts}
    print(f"blindsr {blindsr.__version__}: {len(counts)} functions in {len(modules)} modules")
    print(f"deepest stack: {len(deepest)} blindsr frames")
    for code in reversed(deepest):
        print(f"  {Path(code.co_filename).relative_to(PACKAGE)}: {code.co_qualname}")


if __name__ == "__main__":
    main()
