import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from misc.runtime import RUN_LOST, PeerLost, watched_peers
from misc.runtime.peers import Patience, Peers, _lost_soon
from tests.helpers.paths import ROOT

# The guard must not end the process of the tests.
ENDLESS = 10**9
QUICK = Patience(beat=0.05, lost=ENDLESS, join=ENDLESS, broken=1, farewell=ENDLESS)


@pytest.fixture
def server() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def client(server: TCPStore) -> TCPStore:
    return TCPStore("127.0.0.1", server.port, wait_for_workers=False, timeout=timedelta(seconds=5))


def started(server: TCPStore, world_size: int, *ranks: int) -> list[Peers]:
    peers = [Peers(rank, world_size, lambda: client(server), QUICK) for rank in ranks]
    for each in peers:
        each.start()
    return peers


def wait_until_heard(peers: Peers, *others: int) -> None:
    end = time.monotonic() + 30
    while not set(others) <= peers.names.keys():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_processes_that_live_and_leave_are_not_lost(server: TCPStore) -> None:
    peers = started(server, 3, 0, 1, 2)
    for each in peers:
        wait_until_heard(each, *each._others)
    assert _lost_soon(peers[0]) is None
    for each in reversed(peers):
        each.leave()
    assert peers[0]._farewells == {1: "", 2: ""}
    assert _lost_soon(peers[0]) is None


@pytest.mark.parametrize("beats", [0, 1])
def test_a_silent_process_is_named_after_a_broken_connection(server: TCPStore, beats: int) -> None:
    peers = started(server, 3, 0, 1)
    # As a process that was killed just before or after its first heartbeat.
    store = client(server)
    store.set("name/2", "process 7 on node2")
    store.add("beat/2", beats)
    wait_until_heard(peers[0], 1, 2)
    message = _lost_soon(peers[0])
    assert message is not None
    assert message.startswith("Rank 2 (process 7 on node2) was lost: no heartbeat for ")
    assert message.endswith("Start all processes again with the same command to resume.")
    for each in (peers[1], peers[0]):
        each.leave("of the test")


def test_a_process_that_ended_by_an_error_is_named_with_it(server: TCPStore) -> None:
    first, second = started(server, 2, 0, 1)
    wait_until_heard(first, 1)
    second.leave("No image a.jpg.")
    message = _lost_soon(first)
    assert message is not None
    name = f"process {os.getpid()} on {socket.gethostname()}"
    assert message == f"Rank 1 ({name}) stopped: No image a.jpg."
    first.leave("of the test")


SCRIPT = """
import os, sys, time
sys.path.insert(0, ROOT)
from datetime import timedelta
import torch.distributed
from misc.log import setup_logging
from misc.runtime.peers import Patience, Peers, connect_to_store

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[1])
rank = int(os.environ["RANK"])
server = torch.distributed.TCPStore(
    "127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False
) if rank == 0 else None
setup_logging(None)
peers = Peers(rank, 2, connect_to_store, Patience(beat=0.1, lost=3))
peers.start()
while not peers.names:
    time.sleep(0.01)
print("met", flush=True)
time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_busy_ends_when_the_other_one_is_killed(victim: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT.replace("ROOT", repr(str(ROOT))), str(port)],
            env={**os.environ, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "met\n"
        processes[victim].send_signal(signal.SIGKILL)
        survivor = processes[1 - victim]
        stderr = survivor.communicate(timeout=60)[1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert survivor.returncode == RUN_LOST, stderr
    assert f"Rank {victim} (process {processes[victim].pid} on " in stderr
    assert "was lost" in stderr


def test_one_process_alone_watches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(RuntimeError, match="of the work"), watched_peers():
        raise RuntimeError("of the work")
    assert not issubclass(PeerLost, RuntimeError)


# An object that cannot bear that Python takes itself apart.
ENDING = """
import atexit, os
import torch.distributed as distributed
from misc.command_line import end_process

class Frail:
    def __del__(self, end=os._exit):
        end(9)

distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
frail = Frail()
atexit.register(print, "registered")
print("said")
end_process(3)
"""


@pytest.mark.slow
def test_one_of_several_processes_ends_before_python_takes_itself_apart() -> None:
    command = [sys.executable, "-c", ENDING]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "said\nregistered\n"
