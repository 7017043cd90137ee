"""What every benchmark shares: medians, peak memory, this machine's rates, and a report."""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from misc.provenance import cpu_name
from misc.runtime import keep_freed_memory
from tests.helpers.memory import MIB, Growth, measured_memory

T = TypeVar("T")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Measured(Generic[T]):
    """One call: its result, wall-clock seconds, and peak memory over what was held before (MiB).

    `peak_mib` is NaN where the system does not tell.
    """

    result: T
    seconds: float
    peak_mib: float


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_call(function: Callable[[], object], repeats: int = 5, *, warmup: int = 1) -> float:
    """Median wall-clock seconds of `function()`, device work included, after `warmup` calls."""
    keep_freed_memory()  # as steps on the CPU do
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(repeats):
        _synchronize()
        start = time.perf_counter()
        function()
        _synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_once(function: Callable[[], T], device: str = "cpu") -> Measured[T]:
    """Time and peak memory of one call: on the CPU of the process (Linux), on CUDA of the card.

    The process starts without freed memory to use again, so a median by `time_call` is faster.
    """
    keep_freed_memory()  # as steps on the CPU do
    with _measured_memory_of_card() if device != "cpu" else measured_memory() as growth:
        start = time.perf_counter()
        result = function()
        _synchronize()
        seconds = time.perf_counter() - start
    return Measured(result, seconds, growth.num_bytes / MIB)


@contextmanager
def _measured_memory_of_card() -> Iterator[Growth]:
    """As `measured_memory`, of the card."""
    growth = Growth()
    gc.collect()
    _synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield growth
    growth.num_bytes = torch.cuda.max_memory_allocated() - before


def copy_rate(num_bytes: int, device: str = "cpu") -> float:
    """Bytes a second, read and written, of copying `num_bytes` (so caches count as they would)."""
    source = torch.ones(max(num_bytes // 8, 1), dtype=torch.float64, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_call(lambda: target.copy_(source), 20, warmup=3)


def matmul_rate(size: int = 1024, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating point operations a second of a (size, size) matrix product."""
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / time_call(lambda: matrix @ matrix, 5, warmup=2)


def count_flops(function: Callable[[], object]) -> int:
    """Floating point operations of the convolutions and matrix products in `function()`."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def _first_line(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def machine_info() -> dict[str, str | int]:
    """Processor, card, versions, commit ("+" after it: the files were changed since) and time."""
    commit = _first_line(["git", "rev-parse", "--short", "HEAD"])
    changed = _first_line(["git", "status", "--porcelain", "--untracked-files=no"])
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit + ("+" if changed not in ("", "unknown") else ""),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return NOT_MEASURED
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a Markdown table; a column a row does not have stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)]
    lines += [[_text(row[name]) if name in row else "" for name in names] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _without_nan(row: Mapping[str, object]) -> dict[str, object]:
    """JSON has no NaN: what could not be measured is null."""
    return {name: None if value != value else value for name, value in row.items()}


@dataclass
class Report:
    """Rows of one benchmark: each `add`ed, shown as a Markdown table, written as JSON."""

    title: str
    quick: bool = False
    machine: dict[str, str | int] = field(default_factory=machine_info)
    rows: list[dict[str, object]] = field(default_factory=list)
    targets: list[dict[str, object]] = field(default_factory=list)

    def add(self, what: str, **columns: object) -> None:
        """Add a row; columns are named as they should read, with their unit (`seconds=...`)."""
        self.rows.append({"what": what, **columns})

    def add_floor(self, what: str, seconds: float, ours: float) -> None:
        """Add the least time that this machine's rates allow, and how far ours is above it."""
        self.add(f"floor: {what}", seconds=seconds, ours_over=ours / seconds)

    def target(
        self,
        what: str,
        value: float | None,
        *,
        at_most: float = math.inf,
        at_least: float = -math.inf,
    ) -> None:
        """Note a number that was asked for, what was measured, and whether that reaches it.

        None: not measured here.
        """
        bound = f"at most {at_most:g}" if at_most < math.inf else f"at least {at_least:g}"
        reached = None if value is None else at_least <= value <= at_most
        self.targets.append({"what": what, "target": bound, "measured": value, "reached": reached})

    def table(self) -> str:
        """The rows as a Markdown table; a column a row does not have stays empty."""
        return markdown_table(self.rows)

    def finish(self, json_file: Path | None) -> None:
        """Print title, machine and table; write everything to `json_file` if one is given."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        note = " (quick: runs, but says nothing about speed)" if self.quick else ""
        sys.stdout.write(f"## {self.title}{note}\n{machine}\n\n{self.table()}\n")
        if self.targets:
            sys.stdout.write(f"\n{markdown_table(self.targets)}\n")
        if json_file is not None:
            content = {
                "title": self.title,
                "quick": self.quick,
                "machine": self.machine,
                "rows": [_without_nan(row) for row in self.rows],
                "targets": [_without_nan(row) for row in self.targets],
            }
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def make_parser(description: str | None, device: str | None = "cpu") -> argparse.ArgumentParser:
    """Parser with what every benchmark takes: --quick, --json FILE, --device.

    `device` is its default; None: to be found.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small inputs, one repeat (for CI)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    default = device or "cuda, where there is any"
    parser.add_argument("--device", default=device, help=f"cpu or cuda (default: {default})")
    return parser
