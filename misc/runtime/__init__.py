"""The machine: device and precision, worker processes, and the other processes of a run."""

from misc.runtime.device import ReportedByMain, Runtime, is_accelerator, make_runtime
from misc.runtime.loading import read_ahead
from misc.runtime.memory import keep_freed_memory
from misc.runtime.peers import RUN_LOST, PeerLost, watched_peers
from misc.runtime.workers import WorkerPool, available_cpus, prepare_workers, workers_for

__all__ = [
    "RUN_LOST",
    "PeerLost",
    "ReportedByMain",
    "Runtime",
    "WorkerPool",
    "available_cpus",
    "is_accelerator",
    "keep_freed_memory",
    "make_runtime",
    "prepare_workers",
    "read_ahead",
    "watched_peers",
    "workers_for",
]
