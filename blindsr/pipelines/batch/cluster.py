"""The engine of many machines: tasks on a dask cluster, whose workers see the same folders as this process.

dask.distributed restarts what a dying worker leaves undone; that nothing is done twice is the task's own affair
(`blindsr.pipelines.batch.task.run_task` keeps a result that lies there).
"""

import queue
import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blindsr import __version__
from blindsr.errors import BlindSRError, ConfigError, DeviceError
from blindsr.events import Event, Notice, StageDone, StageStarted, StepDone
from blindsr.pipelines.batch.events import BatchListener, PhotoSaid, PhotoStarted
from blindsr.pipelines.batch.task import Row, Task, run_task
from blindsr.pipelines.batch.worker import throttled

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskEngine", "read_resources"]

_EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in (StageStarted, StepDone, StageDone, Notice)}
_CONNECT = 30  # seconds for the scheduler to answer
_SILENCE = 60.0  # seconds without a scheduler before the batch is given up
_AHEAD = 2  # tasks on their way for each that can run: workers never wait, and the scheduler holds little


def read_resources(text: str | None) -> dict[str, float]:
    """Read resources such as "GPU=1,MEMORY=4e9".

    Raises:
        ConfigError: It is not of that form.
    """
    found: dict[str, float] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, _, number = part.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ConfigError(
                f"task resources are NAME=NUMBER, separated by commas, got {part!r}; e.g. GPU=1."
            ) from None
    return found


class DaskEngine:
    """Tasks on the workers of a dask scheduler.

    Args:
        scheduler: Its address, such as "tcp://host:8786".
        device: For every task, on the worker's machine.
        retries: Further attempts for a photograph whose memory ran out. How often a photograph may lose its worker is
            the scheduler's setting (distributed.scheduler.allowed-failures, 3).
        resources: What a task takes of a worker's resources: "GPU=1" runs one for each GPU that a worker declares.

    Raises:
        ConfigError: `resources` cannot be read.
    """

    def __init__(self, scheduler: str, *, device: str = "auto", retries: int = 2, resources: str | None = None) -> None:
        self.scheduler = scheduler
        self.device = device
        self.retries = retries
        self.resources = read_resources(resources)

    def run(self, tasks: Iterator[Task], listener: BatchListener) -> Generator[tuple[Task, Row], None, None]:
        """Run tasks, and yield each with its row in the order in which they end.

        Raises:
            DeviceError: dask.distributed is not installed, the scheduler does not answer, or it is gone for a minute.
        """
        with self._connected() as client:
            run = _Run(client, self, tasks, listener)
            try:
                yield from run.rows()
            finally:
                run.cancel()

    def _connected(self) -> "Client":
        try:
            from distributed import Client
        except ImportError as error:
            raise DeviceError("--executor dask needs dask.distributed; install blindsr[cluster].") from error
        try:
            return Client(self.scheduler, timeout=_CONNECT, set_as_default=False, name="blindsr")
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: no address
            raise DeviceError(
                f"no dask scheduler answers at {self.scheduler}; start one (`dask scheduler`), or check the address."
            ) from error


class _Run:
    def __init__(self, client: "Client", engine: DaskEngine, tasks: Iterator[Task], listener: BatchListener) -> None:
        self.client = client
        self.engine = engine
        self.tasks = tasks
        self.listener = listener
        self.news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.name = f"blindsr-{secrets.token_hex(6)}"
        self.open: dict[str, tuple[Future[Row], Task, int]] = {}
        self.again: list[tuple[Task, int]] = []
        client.subscribe_topic(self.name, lambda event: self.news.put(("said", event)))

    def rows(self) -> Iterator[tuple[Task, Row]]:
        self._fill()
        silent = 0.0
        while self.open:
            try:
                kind, content = self.news.get(timeout=1.0)
            except queue.Empty:
                silent = 0.0 if self.client.status == "running" else silent + 1.0
                if silent >= _SILENCE:
                    raise self._gone() from None
                continue
            if kind == "said":
                self._hear(content)
            else:
                yield from self._take(content)
                self._fill()

    def _fill(self) -> None:
        room = _AHEAD * max(1, sum(self.client.nthreads().values())) - len(self.open)
        for _ in range(room):
            if (task := next(self.tasks, None)) is not None:
                self._submit(task, 1)
            elif self.again:
                self._submit(*self.again.pop())
            else:
                return

    def _submit(self, task: Task, number: int) -> None:
        key = f"{self.name}-{task.key}-{secrets.token_hex(4)}"
        future = self.client.submit(
            run_on_worker,
            task,
            self.engine.device,
            self.name,
            __version__,
            key=key,
            pure=False,
            resources=self.engine.resources or None,
        )
        self.open[key] = (future, task, number)
        future.add_done_callback(lambda done: self.news.put(("done", done.key)))

    def _hear(self, event: tuple[Any, Mapping[str, Any]]) -> None:
        _, said = event
        found = self.open.get(str(said.get("key")))
        if found is None:
            return
        source = found[1].source
        if said["kind"] == "begins":
            self.listener(PhotoStarted(source=source, worker=str(said["worker"])))
        elif said["kind"] in _EVENTS:
            self.listener(PhotoSaid(source=source, event=_EVENTS[said["kind"]](**said["values"])))

    def _take(self, key: str) -> Iterator[tuple[Task, Row]]:
        if key not in self.open:
            return
        future, task, number = self.open.pop(key)
        if future.status == "cancelled":
            raise self._gone()
        error = future.exception() if future.status == "error" else None
        if isinstance(error, BlindSRError):
            raise error  # of the worker, not of the photograph: another version, for example
        row = self._failed(error) if error is not None else future.result()
        if row.pop("retry", False) and number <= self.engine.retries:
            self.again.append((task, number + 1))
            return
        yield task, row if number == 1 else {**row, "attempts": number}

    def _failed(self, error: BaseException) -> Row:
        if type(error).__name__ == "KilledWorker":
            words = "every worker that had this photograph died of it, or with it; look into the logs of the workers."
        else:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"status": "failed", "error": words}

    def _gone(self) -> DeviceError:
        return DeviceError(
            f"the dask scheduler at {self.engine.scheduler} is gone; what is done is kept: "
            "run the same command again when it is back."
        )

    def cancel(self) -> None:
        """Take back what has not ended."""
        if self.open and self.client.status == "running":
            self.client.cancel([future for future, _, _ in self.open.values()], force=True)


def run_on_worker(task: Task, device: str, topic: str, version: str) -> Row:
    """Run a task inside a dask worker, and tell the client what it says.

    Raises:
        ConfigError: The worker has another version of blindsr, whose results would differ.
    """
    from distributed import get_worker

    from blindsr.runtime import usable_cores

    if version != __version__:
        raise ConfigError(
            f"this worker has blindsr {__version__}, the batch is of {version}; install the same on both."
        )
    worker = get_worker()
    key = str(worker.get_current_task())
    worker.log_event(topic, {"key": key, "kind": "begins", "worker": worker.address})
    if task.threads is None:
        task = replace(task, threads=max(1, usable_cores() // worker.state.nthreads))
    listener = throttled(lambda event: worker.log_event(topic, _packed(key, event)))
    row = run_task(task, device, listener=listener)
    if row["status"] == "failed" and not task.source.exists():
        row["error"] += f" (The worker {worker.address} must see the same folders as this machine.)"
    return row


def _packed(key: str, event: Event) -> dict[str, object]:
    values = {name: getattr(event, name) for name in type(event).__dataclass_fields__}
    if "values" in values:
        values["values"] = dict(values["values"])
    return {"key": key, "kind": type(event).__name__, "values": values}
