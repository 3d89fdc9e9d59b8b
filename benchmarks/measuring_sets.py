"""Metrics on test sets: one ablation for each set and preset, one table and one JSON of all.

    python benchmarks/measuring_sets.py SET... -o OUT [--presets default,paper] [--estimators spectral,kernelgan]

A set has folders hr/, lr/ and, where the true kernels are known, kernel/; `blindsr degrade` makes one. The scale
follows from the sizes. Interrupted and started again, it continues where it was.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from machine import circumstances

from blindsr.evaluation.ablation import AblationPlan, ablate
from blindsr.evaluation.dataset import DatasetImage, read_dataset
from blindsr.evaluation.report.overview import write_ablation_report
from blindsr.evaluation.results import summarise
from blindsr.events import Event, Notice, StepDone
from blindsr.image_io import read_photo
from blindsr.pipelines.record import plain
from blindsr.runtime import prepare_process
from blindsr.settings import PRESETS, preset


def main() -> None:
    arguments = _arguments()
    threads = prepare_process(arguments.threads)
    runs = []
    for folder in arguments.sets:
        images = read_dataset(folder, limit=arguments.limit)
        for name in arguments.presets.split(","):
            settings = replace(preset(name), scale=float(_scale(images[0])))
            plan = AblationPlan(
                images=images,
                estimators=("kernelgan",) if name == "paper" else tuple(arguments.estimators.split(",")),
                upscalers=tuple(arguments.upscalers.split(",")) if arguments.upscalers else None,
                settings=settings,
                seeds=tuple(range(arguments.seeds)),
            )
            target = arguments.output / f"{folder.name}-{name}"
            share = max(1, threads // arguments.jobs)
            results = ablate(plan, target, jobs=arguments.jobs, threads=share, listener=_print_event)
            write_ablation_report(results)
            summary = summarise(results)
            table = (target / "table.md").read_text(encoding="utf-8")
            print(f"\n## {folder.name}, preset {name}\n\n{table}", flush=True)
            runs.append(
                {
                    "set": folder.name,
                    "preset": name,
                    "scale": settings.run_scale,
                    "missing": results.missing,
                    "methods": summary.methods,
                    "images": summary.images,
                }
            )
    text = json.dumps(plain({**circumstances(), "runs": runs}), indent=1, ensure_ascii=False)
    (arguments.output / "measuring_sets.json").write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders with hr/, lr/ and kernel/")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the runs and measuring_sets.json")
    parser.add_argument("--presets", default="default", help=f"of {', '.join(PRESETS)}; paper runs kernelgan alone")
    parser.add_argument("--estimators", default="spectral,kernelgan")
    parser.add_argument("--upscalers", help="the preset's by default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, help="maximum number of images of a set")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def _scale(image: DatasetImage) -> int:
    hr, lr = (read_photo(path).pixels.shape[0] for path in (image.hr, image.lr))
    return round(hr / lr)


def _print_event(event: Event) -> None:
    if isinstance(event, Notice):
        print(f"note: {event.message}", flush=True)
    elif isinstance(event, StepDone) and event.values:
        print(f"  cell {event.step}: {event.values['psnr_y']:.2f} dB", flush=True)


if __name__ == "__main__":
    main()
