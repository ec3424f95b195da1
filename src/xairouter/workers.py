"""Several processes on one machine: one listening socket, one supervisor, a journal folder each.

The supervisor serves nothing. It starts the workers, starts those anew that die, passes SIGTERM on
and waits; SIGHUP replaces the workers one by one, each new one being ready before an old one is
told to go.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from xairouter.app import GIVE_WAY, listen
from xairouter.errors import ConfigError
from xairouter.observe import log
from xairouter.settings import Settings

QUICK_SECONDS = 5.0
MOST_QUICK_ENDS = 5
READY_SECONDS = 60.0
LOOK_SECONDS = 0.2


class Worker:
    """One process that serves; ``is_ready`` once it has said so."""

    def __init__(self, bound: socket.socket, folder: Path, settings: Settings) -> None:
        descriptor = bound.fileno()
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 -- our own command, no word from outside
            [
                *(sys.executable, "-m", "xairouter", "serve", "--workers", "1"),
                *("--data-dir", str(settings.data_dir), "--listen-fd", str(descriptor)),
            ],
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            # Signals of a terminal reach the supervisor alone, which passes them on in order.
            start_new_session=True,
            env={
                **os.environ,
                "PROMETHEUS_MULTIPROC_DIR": str(folder),
                # A worker is told that it is one; how many share the limits it learns from this.
                "XAIROUTER_INSTANCES": str(max(settings.instances, settings.workers)),
            },
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self.is_ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def look(self) -> int | None:
        """The exit status of a worker that has ended, None while it runs."""
        assert self._process.stdout is not None
        if not self.is_ready and self._process.stdout.read():
            self.is_ready = True
        return self._process.poll()

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


class Supervisor:
    """Keeps ``settings.workers`` workers running until it is told to end."""

    def __init__(self, settings: Settings, ready: Callable[[str, int], None]) -> None:
        self._settings = settings
        self._ready = ready
        self._workers: list[Worker] = []
        self._leaving: list[Worker] = []
        self._is_ending = False
        self._is_renewing = False
        self._quick_ends = 0
        self._renewed = 0

    def run(self) -> int:
        """Returns the exit status: 0 after SIGTERM or SIGINT, 1 where workers do not stay up."""
        settings = self._settings
        bound = listen(settings.host, settings.port)
        bound.set_inheritable(True)
        folder = Path(tempfile.mkdtemp(prefix="xairouter-metrics-"))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, self._renew)
        try:
            for _ in range(settings.workers):
                self._workers.append(Worker(bound, folder, settings))
            if self._wait_until_ready():
                self._ready(settings.host, int(bound.getsockname()[1]))
            while self._workers or self._leaving:
                self._look(bound, folder)
                time.sleep(LOOK_SECONDS)
        finally:
            for worker in (*self._workers, *self._leaving):
                worker.end(signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)
            bound.close()
        return 1 if self._quick_ends >= MOST_QUICK_ENDS else 0

    def _end(self, number: int, frame: object) -> None:
        """The first signal has every worker drain; a second one does not wait."""
        again, self._is_ending = self._is_ending, True
        for worker in (*self._workers, *self._leaving):
            worker.end(signal.SIGKILL if again else signal.SIGTERM)

    def _renew(self, number: int, frame: object) -> None:
        self._is_renewing = True

    def _wait_until_ready(self) -> bool:
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until and not self._is_ending:
            states = [worker.look() for worker in self._workers]
            if any(state is not None for state in states):
                self._is_ending = True
                for worker in self._workers:
                    worker.end()
                raise ConfigError(["A worker did not start; its own words stand above."])
            if all(worker.is_ready for worker in self._workers):
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def _look(self, bound: socket.socket, folder: Path) -> None:
        for worker in [one for one in self._leaving if one.look() is not None]:
            self._leaving.remove(worker)
            mark_process_dead(worker.pid, str(folder))  # type: ignore[no-untyped-call]
        for worker in list(self._workers):
            status = worker.look()
            if status is None:
                continue
            self._workers.remove(worker)
            mark_process_dead(worker.pid, str(folder))  # type: ignore[no-untyped-call]
            if self._is_ending:
                continue
            log.error("worker_ended", pid=worker.pid, status=status)
            was_quick = time.monotonic() - worker.started_at < QUICK_SECONDS
            self._quick_ends = self._quick_ends + 1 if was_quick else 0
            if self._quick_ends >= MOST_QUICK_ENDS:
                log.error("workers_do_not_stay_up")
                self._end(signal.SIGTERM, None)
            else:
                self._workers.append(Worker(bound, folder, self._settings))
        if self._is_renewing and not self._is_ending:
            self._replace_one(bound, folder)

    def _replace_one(self, bound: socket.socket, folder: Path) -> None:
        """The oldest worker that was there when renewal began goes once a new one is ready."""
        newest = max(self._workers, key=lambda one: one.started_at)
        if not newest.is_ready:
            return
        if len(self._workers) > self._settings.workers:
            oldest = min(self._workers, key=lambda one: one.started_at)
            self._workers.remove(oldest)
            self._leaving.append(oldest)
            oldest.end(GIVE_WAY)
            self._renewed += 1
            if self._renewed >= self._settings.workers:
                self._is_renewing, self._renewed = False, 0
            return
        self._workers.append(Worker(bound, folder, self._settings))
