"""The other processes of a run: a lost one ends the run with its name.

torchrun ends what is left on the machine of a process that died. A process on another machine would
wait for it as long as collective operations may take, which is a day: the main process may check or
score alone for hours. So each process counts up in the store that all met at, and watches that the
others do.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from misc.runtime.device import ReportedByMain
from misc.signals import unstoppable

if TYPE_CHECKING:
    from torch.distributed import Store

logger = logging.getLogger(__name__)

RUN_LOST = 75  # EX_TEMPFAIL of sysexits.h: try again
TO_GO_ON = "Start all processes again with the same command to resume."


class PeerLost(Exception):
    """Another process of the run is gone; the message names it."""


@dataclass(frozen=True)
class Patience:
    """How long a process waits for another one, in seconds; one beat is one heartbeat.

    Attributes:
        beat: between two heartbeats.
        lost: without one, until a process counts as lost.
        join: for the first one.
        broken: without one, where a connection broke.
        farewell: for this process to end by itself after another one ended by an error.
    """

    beat: float = 1
    lost: float = 60
    join: float = 900
    broken: float = 5
    farewell: float = 10


class Peers:
    """Exchanges heartbeats with the other processes.

    Silence is counted in this process's own beats: a machine that was asleep has not listened
    meanwhile, and finds nobody lost for it.
    """

    def __init__(
        self, rank: int, world_size: int, connect: Callable[[], "Store"], patience: Patience
    ) -> None:
        """Describe process `rank` of `world_size`; `connect` opens a store of our own."""
        self.rank, self.patience = rank, patience
        self.names: dict[int, str] = {}
        self._others = [other for other in range(world_size) if other != rank]
        self._beats = dict.fromkeys(self._others, 0)
        self._silence = dict.fromkeys(self._others, 0.0)
        self._farewells: dict[int, str] = {}
        self._store_error = ""
        self._reason = ""
        self._left = threading.Event()
        self._connect = connect
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Say that this process lives, and end it where another one is lost."""
        self._thread.start()

    def leave(self, reason: str = "") -> None:
        """Tell the others that this process ends, and why unless all its work is done."""
        self._reason = reason
        self._left.set()
        self._thread.join(self.patience.lost)

    def await_farewell_of_main(self) -> None:
        """Wait until the main process has said why it ends, or is taking too long."""
        for _ in range(round(self.patience.farewell / self.patience.beat)):
            if 0 in self._farewells:
                return
            time.sleep(self.patience.beat)

    def lost(self, silence: float) -> str | None:
        """What to say of a process that is silent for so many seconds, or ended before its time."""
        if self._store_error:
            return (
                f"Rank 0{self._name(0)}, or the process that started it, was lost: "
                f"{self._store_error}. {TO_GO_ON}"
            )
        for other in self._others:
            silent, reason = self._silence[other], self._farewells.get(other)
            if reason and silent >= min(silence, self.patience.farewell):
                return f"Rank {other}{self._name(other)} stopped: {reason}"
            if reason is None and other in self.names and silent >= silence:
                return (
                    f"Rank {other}{self._name(other)} was lost: no heartbeat for {silent:g} s. "
                    f"{TO_GO_ON}"
                )
            if reason is None and other not in self.names and silent >= self.patience.join:
                return f"Rank {other} did not start within {silent:g} s. {TO_GO_ON}"
        return None

    def _name(self, rank: int) -> str:
        return f" ({self.names[rank]})" if rank in self.names else ""

    def _watch(self) -> None:
        """Until this process leaves: beat, hear the others, and end it where one is lost."""
        try:
            store = self._connect()
            store.set_timeout(timedelta(seconds=self.patience.lost))
            store.set(f"name/{self.rank}", f"process {os.getpid()} on {socket.gethostname()}")
            while not self._left.wait(self.patience.beat):
                store.add(f"beat/{self.rank}", 1)
                self._listen(store)
                self._end_if(self.lost(self.patience.lost))
            store.set(f"farewell/{self.rank}", self._reason)
            self._stay_for_the_others(store)
        except RuntimeError as error:  # of torch.distributed: all its errors are RuntimeErrors
            self._store_error = str(error).splitlines()[0]
            self._end_if(None if self._left.is_set() else self.lost(self.patience.lost))

    def _listen(self, store: "Store") -> None:
        for other in self._others:
            beats = store.add(f"beat/{other}", 0)
            is_new = beats > self._beats[other]
            # It may be lost before its first heartbeat.
            if other not in self.names and store.check([f"name/{other}"]):
                self.names[other] = store.get(f"name/{other}").decode()
                is_new = True
            self._beats[other] = beats
            self._silence[other] = 0 if is_new else self._silence[other] + self.patience.beat
            if other not in self._farewells and store.check([f"farewell/{other}"]):
                self._farewells[other] = store.get(f"farewell/{other}").decode()

    def _stay_for_the_others(self, store: "Store") -> None:
        """The store may live in the process of rank 0: it stays until the others have left."""
        patience = self.patience.broken if self._reason else self.patience.lost
        while self.rank == 0 and any(
            other not in self._farewells and self._silence[other] < patience
            for other in self._others
        ):
            time.sleep(self.patience.beat)
            self._listen(store)

    def _end_if(self, message: str | None) -> None:
        if message is not None:
            logger.error("%s", message)
            # The main thread may be waiting for the lost one, in code that nothing interrupts.
            os._exit(RUN_LOST)


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

    peers = Peers(int(os.environ["RANK"]), world_size, connect_to_store, Patience())
    peers.start()
    try:
        yield
    except BaseException as error:
        message = _lost_soon(peers) if isinstance(error, RuntimeError) else None
        with unstoppable():  # torchrun ends a process as soon as another one has ended
            if isinstance(error, ReportedByMain):
                peers.await_farewell_of_main()
            peers.leave(message or f"{type(error).__name__}: {error}")
        if message is not None:
            raise PeerLost(message) from error
        raise
    peers.leave()


def _lost_soon(peers: Peers) -> str | None:
    """After a connection broke: which process is to blame, in words; None if all live."""
    patience = peers.patience
    for _ in range(round(2 * patience.broken / patience.beat)):
        message = peers.lost(patience.broken)
        if message is not None:
            return message
        time.sleep(patience.beat)
    return None


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
