"""Train the flow of `--estimator kernelgan-fkp`: python benchmarks/kernel_flow.py -o flow.safetensors."""

import argparse
from pathlib import Path

from safetensors.torch import save_file
from training.flow import train_flow

from blindsr.events import Event, StepDone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    arguments = parser.parse_args()

    def show(event: Event) -> None:
        if isinstance(event, StepDone) and event.step % 1000 == 0:
            print(f"step {event.step}: {event.values['loss']:.4f}", flush=True)

    flow = train_flow(arguments.steps, listener=show)
    save_file(flow.state_dict(), arguments.output)


if __name__ == "__main__":
    main()
