"""One of several processes: its sign of life, its end, and its end where another one is lost.

Without that sign a process that waits for a dead one would wait as long as collective operations
may take, which is a day: the main process may check or score alone for hours.
"""

import atexit
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed import Store

logger = logging.getLogger(__name__)

RUN_LOST = 75  # EX_TEMPFAIL of sysexits.h: try again
TO_GO_ON = (
    "What was finished is kept: start all processes again with the same command, but without "
    "--overwrite, to go on."
)


class PeerLost(Exception):
    """Another process of the run is gone; the message names it."""


@dataclass(frozen=True)
class Patience:
    """How long a process waits for another one, in seconds; one beat is one sign of life.

    Attributes:
        beat: between two signs of life.
        lost: without one, until a process counts as lost.
        join: for the first one.
        broken: without one, where a connection broke.
        farewell: for a process to end by itself after another one ended.
    """

    beat: float = 1
    lost: float = 60
    join: float = 900
    broken: float = 5
    farewell: float = 10


class Peers:
    """Exchanges signs of life with the other processes, through the store that they met at.

    A silence is counted in this process's own beats: a machine that was asleep or busy has not
    listened meanwhile, and finds nobody lost for it.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        connect: Callable[[], "Store"],
        patience: Patience | None = None,
    ) -> None:
        """Describe the run; nothing starts yet.

        Args:
            rank: number of this process, from 0.
            world_size: number of processes.
            connect: opens a connection to the store, of which nobody else makes use.
            patience: how long to wait for the others.
        """
        self.rank = rank
        self.others = [other for other in range(world_size) if other != rank]
        self.patience = patience or Patience()
        self._connect = connect
        self._names: dict[int, str] = {}
        self._beats = dict.fromkeys(self.others, 0)
        self._silence = dict.fromkeys(self.others, 0)
        self._farewells: dict[int, str] = {}
        self._unanswered = 0
        self._is_connected = False
        self._store_error = ""
        self._reason = ""
        self._left = threading.Event()
        self._exchange = threading.Thread(target=self._exchange_beats, daemon=True)
        self._guard = threading.Thread(target=self._end_if_lost, daemon=True)

    def start(self) -> None:
        """Say that this process lives, and end it where another one is lost."""
        self._exchange.start()
        self._guard.start()

    def leave(self, reason: str = "") -> None:
        """Tell the others that this process ends; rank 0 waits until all of them do.

        Args:
            reason: why, unless all its work is done.
        """
        self._reason = reason
        self._left.set()
        self._exchange.join(self.patience.lost)

    def gone(self) -> str | None:
        """After a connection broke: which process is to blame, in words; None if all live."""
        for _ in range(self._beats_in(2 * self.patience.broken)):
            message = self._who_is_lost(self.patience.broken)
            if message is not None:
                return message
            time.sleep(self.patience.beat)
        return None

    def _beats_in(self, seconds: float) -> int:
        return max(round(seconds / self.patience.beat), 1)

    def _exchange_beats(self) -> None:
        """Until this process leaves: beat, and hear the others. Calls to the store may block."""
        try:
            store = self._connect()
            self._is_connected = True
            store.set(f"name/{self.rank}", f"process {os.getpid()} on {socket.gethostname()}")
            while not self._left.is_set():
                store.add(f"beat/{self.rank}", 1)
                self._listen(store)
                self._left.wait(self.patience.beat)
            store.set(f"farewell/{self.rank}", self._reason)
            if self.rank == 0:
                self._hear_farewells(store)
        except RuntimeError as error:  # of torch.distributed: all its errors are RuntimeErrors
            self._store_error = str(error).splitlines()[0]

    def _hear_farewells(self, store: "Store") -> None:
        """Stay until the others have left or are silent: the store may live in this process."""
        patience = self._beats_in(self.patience.broken if self._reason else self.patience.lost)
        self._listen(store)
        while any(
            other not in self._farewells and self._silence[other] < patience
            for other in self.others
        ):
            time.sleep(self.patience.beat)
            for other in self.others:
                self._silence[other] += 1
            self._listen(store)

    def _listen(self, store: "Store") -> None:
        for other in self.others:
            beats = store.add(f"beat/{other}", 0)
            if beats and other not in self._names:
                self._names[other] = store.get(f"name/{other}").decode()
            if beats > self._beats[other]:
                self._beats[other], self._silence[other] = beats, 0
            if other not in self._farewells and store.check([f"farewell/{other}"]):
                self._farewells[other] = store.get(f"farewell/{other}").decode()
        self._unanswered = 0

    def _end_if_lost(self) -> None:
        """Until this process leaves: end it at once where another one is lost."""
        while not self._left.wait(self.patience.beat):
            self._unanswered += 1
            for other in self.others:
                self._silence[other] += 1
            message = self._who_is_lost(self.patience.lost)
            if message is not None and not self._left.is_set():
                logger.error("%s", message)
                self.leave(message)
                # The main thread may be waiting for the lost one, in code that nothing interrupts.
                os._exit(RUN_LOST)

    def _who_is_lost(self, seconds: float) -> str | None:
        """What to say of a process that is silent for `seconds`, or ended before its time."""
        patience = self.patience
        for other, reason in self._farewells.items():
            if reason and self._silence[other] >= self._beats_in(min(seconds, patience.farewell)):
                return f"Rank {other} ({self._names.get(other)}) stopped: {reason}"
        answer_within = seconds if self._is_connected else patience.join
        if self._store_error or self._unanswered >= self._beats_in(answer_within):
            why = self._store_error or f"no answer for {self._unanswered * patience.beat:g} s"
            name = f" ({self._names[0]})" if 0 in self._names else ""
            return f"Rank 0{name}, or what started it, was lost: {why}. {TO_GO_ON}"
        for other in self.others:
            silence = self._silence[other] * patience.beat
            if other in self._farewells:
                continue
            if other in self._names and silence >= seconds:
                return (
                    f"Rank {other} ({self._names[other]}) was lost: no sign of life for "
                    f"{silence:g} s. {TO_GO_ON}"
                )
            if other not in self._names and silence >= patience.join:
                return f"Rank {other} did not start within {silence:g} s. {TO_GO_ON}"
        return None


@contextlib.contextmanager
def watched_peers() -> Iterator[None]:
    """Within the block this process is one of those that torchrun or accelerate started, if any.

    Raises:
        PeerLost: if the block ended by an error because another process is lost.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 or not {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        yield
        return
    import torch.distributed  # noqa: F401 - here, before two threads import it at once

    peers = Peers(int(os.environ["RANK"]), world_size, connect_to_store)
    peers.start()
    try:
        yield
    except RuntimeError as error:
        message = peers.gone()
        peers.leave(message or f"{type(error).__name__}: {error}")
        if message is not None:
            raise PeerLost(message) from error
        raise
    except BaseException as error:
        peers.leave(f"{type(error).__name__}: {error}")
        raise
    peers.leave()


def connect_to_store() -> "Store":
    """A connection of our own to the store at MASTER_ADDR and MASTER_PORT."""
    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=Patience.join),
    )
    # torchrun may start processes anew with the same store.
    return PrefixStore(f"sbe/peers/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def end_process(status: int) -> NoReturn:
    """End this process, by a short way where it is one of several.

    A thread of torch.distributed lets go of a collective operation's tensors some time after the
    operation. If Python is taking itself apart by then, that aborts the process; destroying the
    process group does not help, since networks hold on to it. So there the functions registered
    for the end are called, and the process ends without waiting for other threads.

    Args:
        status: the exit status.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(status)
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
