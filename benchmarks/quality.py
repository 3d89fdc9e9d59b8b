"""Quality on measuring sets: one ablation for each set and preset, one table and one JSON of all.

    python benchmarks/quality.py SET... -o OUT [--presets default,paper] [--estimators spectral,kernelgan]

A set has folders hr/, lr/ and, where the truth is known, kernel/; `blindsr degrade` makes one. The scale is read off
the sizes. Interrupted and started again, it goes on where it was.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from machine import circumstances

from blindsr.events import Event, Notice, StepDone
from blindsr.image_io import read_photo
from blindsr.pipelines.ablate import ablate
from blindsr.pipelines.ablation_plan import AblationPlan, DatasetImage, read_dataset
from blindsr.pipelines.ablation_summary import summarise
from blindsr.pipelines.ablation_tables import markdown_table
from blindsr.pipelines.record import plain
from blindsr.pipelines.settings import PRESETS, preset
from blindsr.report.ablation import write_ablation_report
from blindsr.runtime import prepare_process


def main() -> None:
    arguments = _arguments()
    threads = prepare_process(arguments.threads)
    runs = []
    for folder in arguments.sets:
        images = read_dataset(folder, limit=arguments.limit)
        for name in arguments.presets.split(","):
            estimators = tuple(arguments.estimators.split(",")) if name != "paper" else ("kernelgan",)
            settings = replace(preset(name), scale=float(_scale(images[0])))
            plan = AblationPlan(
                images=images, estimators=estimators, settings=settings, seeds=tuple(range(arguments.seeds))
            )
            results = ablate(
                plan,
                arguments.output / f"{folder.name}-{name}",
                jobs=arguments.jobs,
                threads=max(1, threads // arguments.jobs),
                listener=_say,
            )
            write_ablation_report(results)
            summary = summarise(results)
            print(f"\n## {folder.name}, preset {name}\n\n{markdown_table(summary, results)}", flush=True)
            runs.append(
                {
                    "set": folder.name,
                    "preset": name,
                    "scale": settings.network_scale,
                    "missing": results.missing,
                    "methods": [asdict(row) for row in summary.methods],
                    "images": [asdict(row) for row in summary.images],
                }
            )
    text = json.dumps(plain({**circumstances(), "runs": runs}), indent=1, ensure_ascii=False)
    (arguments.output / "quality.json").write_text(text + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders with hr/, lr/ and kernel/")
    parser.add_argument("-o", "--output", type=Path, required=True, help="gets a folder a run, and quality.json")
    parser.add_argument("--presets", default="default", help=f"of {', '.join(PRESETS)}; paper runs kernelgan alone")
    parser.add_argument("--estimators", default="spectral,kernelgan")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, help="images a set")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def _scale(image: DatasetImage) -> int:
    hr, lr = (read_photo(path).pixels.shape[0] for path in (image.hr, image.lr))
    return round(hr / lr)


def _say(event: Event) -> None:
    if isinstance(event, Notice):
        print(f"note: {event.message}", flush=True)
    elif isinstance(event, StepDone) and event.values:
        print(f"  cell {event.step}: {event.values['psnr_y']:.2f} dB", flush=True)


if __name__ == "__main__":
    main()
