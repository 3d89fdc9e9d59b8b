"""The machine and the versions, which every result file contains."""

import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
import torch

from blindsr import __version__
from blindsr.cores import usable_cores
from blindsr.registry import source_digest
from blindsr.runtime import bf16_reason


def circumstances() -> dict[str, object]:
    """JSON-able facts."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
            "bf16": bf16_reason(torch.device("cpu"))[1],
            "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        "versions": {
            "blindsr": __version__,
            "source": source_digest(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
    }


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
