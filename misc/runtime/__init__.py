"""The machine: device and precision, worker processes, and the other processes of a run."""

from misc.runtime.device import ReportedByMain, Runtime, is_accelerator, make_runtime
from misc.runtime.memory import keep_freed_memory
from misc.runtime.peers import RUN_LOST, PeerLost, end_process, watched_peers
from misc.runtime.signals import StopRequest, Terminated, stop_later, terminable
from misc.runtime.workers import (
    WorkerPool,
    available_cpus,
    multiprocessing_context,
    prepare_workers,
    start_worker,
)

__all__ = [
    "RUN_LOST",
    "PeerLost",
    "ReportedByMain",
    "Runtime",
    "StopRequest",
    "Terminated",
    "WorkerPool",
    "available_cpus",
    "end_process",
    "is_accelerator",
    "keep_freed_memory",
    "make_runtime",
    "multiprocessing_context",
    "prepare_workers",
    "start_worker",
    "stop_later",
    "terminable",
    "watched_peers",
]
