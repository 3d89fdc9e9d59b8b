"""A batch on a Dask cluster, whose workers see the same folders as this process.

dask.distributed runs again what a dying worker leaves undone; `blindsr.batch.task.run_task` keeps a result that exists.
"""

import queue
import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blindsr import __version__
from blindsr.batch.task import BatchListener, ImageEvent, ImageStarted, Row, Task, error_text, run_task, throttled
from blindsr.errors import BlindSRError, ConfigError, DeviceError
from blindsr.events import Event, Notice, StageDone, StageStarted, StepDone

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Cluster", "read_resources"]

_EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in (StageStarted, StepDone, StageDone, Notice)}
_CONNECT_SECONDS = 30
_MAX_OUTAGE = 60.0  # seconds without a scheduler after which the batch is given up
_TASKS_PER_THREAD = 2  # submitted: workers never wait for this process, and the scheduler holds few tasks


def read_resources(text: str | None) -> dict[str, float]:
    """Parse resources such as "GPU=1,MEMORY=4e9"; a ConfigError if the text does not have this form."""
    resources: dict[str, float] = {}
    for part in filter(str.strip, (text or "").split(",")):
        name, _, number = part.partition("=")
        try:
            resources[name.strip()] = float(number)
        except ValueError:
            raise ConfigError(
                f"task resources must be NAME=NUMBER, separated by commas, got {part!r}; e.g. GPU=1."
            ) from None
    return resources


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The workers of a Dask scheduler."""

    scheduler: str  # its address, such as "tcp://host:8786"
    device: str = "auto"  # the device for every task, on the machine of the worker
    threads: int | None = None  # threads for each task; None divides the cores of a worker among its Dask threads
    retries: int = 2  # when memory ran out; for dead workers the scheduler has a setting, allowed-failures
    resources: Mapping[str, float] = field(default_factory=dict)  # of a worker that a task takes, such as {"GPU": 1}

    def run(self, tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        """Run tasks, and yield each with its row in the order of completion.

        Raises:
            DeviceError: dask.distributed is not installed, or the scheduler does not answer for a minute.
            ConfigError: A worker has another version of blindsr.
        """
        topic = f"blindsr-{secrets.token_hex(6)}"
        messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        pending: dict[str, tuple[Future[Row], Task, int]] = {}
        postponed: list[tuple[Task, int]] = []

        def submit(task: Task, attempt: int) -> None:
            key = f"{topic}-{task.key}-{secrets.token_hex(4)}"
            arguments = (task, self.device, self.threads, topic, __version__)
            future = client.submit(run_on_worker, *arguments, key=key, pure=False, resources=self.resources or None)
            pending[key] = future, task, attempt
            future.add_done_callback(lambda done: messages.put(("done", done.key)))

        def submit_more() -> None:
            while len(pending) < _TASKS_PER_THREAD * max(1, sum(client.nthreads().values())):
                if (task := next(tasks, None)) is not None:
                    submit(task, 1)
                elif postponed:
                    submit(*postponed.pop())
                else:
                    return

        with self._connected() as client:
            client.subscribe_topic(topic, lambda event: messages.put(("event", event[1])))
            try:
                submit_more()
                outage = 0.0
                while pending:
                    try:
                        kind, content = messages.get(timeout=1.0)
                    except queue.Empty:
                        outage = 0.0 if client.status == "running" else outage + 1.0
                        if outage >= _MAX_OUTAGE:
                            raise self._scheduler_lost() from None
                        continue
                    if kind == "event" and content["key"] in pending:
                        source = pending[content["key"]][1].source
                        if content["kind"] == "start":
                            listener(ImageStarted(source=source, worker=str(content["worker"])))
                        elif content["kind"] in _EVENTS:
                            event = _EVENTS[content["kind"]](**content["values"])
                            listener(ImageEvent(source=source, event=event))
                    elif kind == "done" and content in pending:
                        future, task, attempt = pending.pop(content)
                        row = self._row(future)
                        if row.get("retry") and attempt <= self.retries:
                            postponed.append((task, attempt + 1))
                        else:
                            yield task, row if attempt == 1 else {**row, "attempts": attempt}
                        submit_more()
            finally:
                if pending and client.status == "running":
                    client.cancel([future for future, _, _ in pending.values()], force=True)

    def _connected(self) -> "Client":
        try:
            from distributed import Client
        except ImportError as error:
            raise DeviceError(
                "executor='dask' (--executor dask) needs dask.distributed; install blindsr[cluster]."
            ) from error
        try:
            return Client(self.scheduler, timeout=_CONNECT_SECONDS, set_as_default=False, name="blindsr")
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: no address
            raise DeviceError(
                f"no Dask scheduler answers at {self.scheduler}; start one (`dask scheduler`), or check the address."
            ) from error

    def _scheduler_lost(self) -> DeviceError:
        return DeviceError(
            f"the connection to the Dask scheduler at {self.scheduler} is lost; finished images are kept: run the same "
            "command again when the scheduler is back."
        )

    def _row(self, future: "Future[Row]") -> Row:
        if future.status == "cancelled":
            raise self._scheduler_lost()
        if future.status != "error":
            row: Row = future.result()
            return row
        error = future.exception()
        if isinstance(error, BlindSRError):
            raise error  # about the worker, not the image: another version
        if type(error).__name__ == "KilledWorker":
            return {"status": "failed", "error": "every worker that ran this image died; see the logs of the workers."}
        return {"status": "failed", "error": error_text(error)}


def run_on_worker(task: Task, device: str, threads: int | None, topic: str, version: str) -> Row:
    """Run a task inside a Dask worker, and send its events to the client; a ConfigError in another version."""
    from distributed import get_worker

    from blindsr.cores import default_threads
    from blindsr.runtime import prepare_process

    if version != __version__:
        raise ConfigError(f"a worker has blindsr {__version__}, the batch {version}; install the same version on both.")
    worker = get_worker()
    key = str(worker.get_current_task())
    worker.log_event(topic, {"key": key, "kind": "start", "worker": worker.address})
    prepare_process(threads or max(1, default_threads() // worker.state.nthreads))

    def send(event: Event) -> None:
        values = {name: getattr(event, name) for name in type(event).__dataclass_fields__}
        if "values" in values:  # msgpack serialises no mapping but dict
            values["values"] = dict(values["values"])
        worker.log_event(topic, {"key": key, "kind": type(event).__name__, "values": values})

    row = run_task(task, device, listener=throttled(send))
    if row["status"] == "failed" and not Path(task.source).exists():
        row["error"] += f" (The worker {worker.address} must see the same folders as this machine.)"
    return row
