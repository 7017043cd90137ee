"""Device, precision and processes: decided here, once."""

import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import UserError
from misc.runtime.memory import keep_freed_memory
from misc.runtime.workers import available_cpus

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

T = TypeVar("T")
R = TypeVar("R")
N = TypeVar("N", bound="torch.nn.Module")

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
LONGEST_WAIT = datetime.timedelta(days=1)  # for the process that checks or scores alone
# By default a thread of torch's ends a process whose NCCL connection broke, and does not say who
# was lost. `watched_peers` does, and ends it once another process has been silent for a minute.
NCCL_WAITS_FOR_US = ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
# With another workspace cuBLAS may add up in another order each time. The first is faster.
CUBLAS_WORKSPACE, REPEATABLE_WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")


class ReportedByMain(UserError):
    """A mistake that the main process reports; in the others it only ends the run."""


@dataclass(frozen=True)
class Runtime:
    """What a step needs to know of the machine."""

    accelerator: "Accelerator"
    num_workers: int

    @property
    def device(self) -> "torch.device":
        """Where networks run."""
        return self.accelerator.device

    @property
    def device_name(self) -> str:
        """Name of the card that networks run on; `cpu` without one."""
        import torch

        is_card = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if is_card else self.device.type

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def world_size(self) -> int:
        """Number of processes that share the work."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """True in the one process that writes what all share."""
        return self.accelerator.is_main_process

    def place(self, network: N) -> N:
        """The network on the device, with its weights in the layout that is fast there.

        Our networks are channels-last: faster on the CPU, and what a GPU's tensor cores take in
        bf16 and fp16. In fp32 without TF32 a GPU has no use for tensor cores, and cuDNN is at home
        in the usual layout, so there they get that one. `tests/benchmarks/gpu.py` times both.
        """
        import torch

        network = network.to(self.device)
        if self.device.type == "cuda" and self.accelerator.mixed_precision == PRECISIONS["fp32"]:
            network = network.to(memory_format=torch.contiguous_format)
        return network

    def shard(self, items: Sequence[T]) -> list[T]:
        """The items that are this process's work: every world_size-th."""
        return list(items[self.rank :: self.world_size])

    def workers_beside_network(self, *, has_threads: bool) -> int:
        """Processes for CPU work while a network runs; none where network and work share threads.

        If the network's threads take every core, worker processes only slow down both: on two
        cores a mask took a third longer with SqueezeNet, a fifth with ResNet-50.

        Args:
            has_threads: whether the work, done in this process, has the network's threads.
        """
        import torch

        cores = available_cpus() // local_ranks()
        network_takes_all = not is_accelerator(self.device) and torch.get_num_threads() >= cores
        return 0 if has_threads and network_takes_all else self.num_workers

    def barrier(self) -> None:
        """Wait until every process has come here."""
        self.accelerator.wait_for_everyone()

    def on_main(self, work: Callable[[], R]) -> R:
        """Do in one process what all must agree on, after every process has come here.

        Args:
            work: called in the main process alone; its result must be picklable.

        Returns:
            the result, in every process.

        Raises:
            UserError: what `work` raised; ReportedByMain in the other processes.
        """
        if self.world_size == 1:
            return work()
        from accelerate.utils import broadcast_object_list

        self.barrier()
        outcome: list[Any] = [None, ReportedByMain("The main process says why.")]
        if self.is_main:
            try:
                outcome = [work(), None]
            except UserError as error:
                broadcast_object_list(outcome)
                raise error
        result, error_of_main = broadcast_object_list(outcome)
        if error_of_main is not None:
            raise error_of_main
        return result

    def once_on_each_machine(self, work: Callable[[], object]) -> None:
        """Do `work` in one process of each machine while the others wait.

        The main process goes first: where machines share a folder, the others find all done.

        Raises:
            UserError: what `work` raised; ReportedByMain where the main process raised it.
        """

        def work_without_result() -> None:
            work()

        self.on_main(work_without_result)
        if self.accelerator.is_local_main_process and not self.is_main:
            work()
        self.barrier()

    def sum_over_processes(self, values: "torch.Tensor") -> "torch.Tensor":
        """Element-wise sum of `values` over the processes, the same in each."""
        if self.world_size == 1:
            return values
        import torch.distributed

        total = values.detach().clone()
        torch.distributed.all_reduce(total)
        return total


def make_runtime(
    device: str, precision: str, num_workers: int, *, deterministic: bool = False
) -> Runtime:
    """Choose the device and join the processes that torchrun or accelerate started.

    fp32 is float32 throughout, on a GPU too. Training on CUDA is still not repeatable bit by bit,
    since some of its kernels add up in an order of their own, unless it is `deterministic`.

    Args:
        device: auto, cpu or cuda.
        precision: fp32, bf16 or fp16.
        num_workers: processes for CPU work on this machine, shared by its ranks.
        deterministic: on CUDA, take kernels only that give the same bits each time; torch raises a
            RuntimeError where it has none. The CPU's all do.

    Raises:
        UserError: if the device or the precision is not available, or a rank has no GPU.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device found. Use --device cpu.")
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if on_cpu and precision == "fp16":
        raise UserError("--precision fp16 needs a GPU. Use fp32 or bf16 on the CPU.")
    if on_cpu:
        keep_freed_memory()
    else:
        _demand_a_gpu_for_each_rank(torch.cuda.device_count())
        os.environ.setdefault(*NCCL_WAITS_FOR_US)
    _choose_kernels(deterministic=deterministic and not on_cpu)
    _forget_other_runtime(PRECISIONS[precision], on_cpu=on_cpu)
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=PRECISIONS[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    asked = "cpu" if on_cpu else "cuda"
    if accelerator.device.type != asked:
        raise UserError(
            f"--device {asked}: this process is bound to {accelerator.device.type}, by an earlier "
            "run in it or by accelerate's environment variables. Start a new process."
        )
    # torch lets cuDNN's convolutions round their inputs to TF32, which has 11 bits. Whatever an
    # earlier run in this process chose is forgotten.
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = False
    return Runtime(accelerator, max(num_workers // local_ranks(), min(num_workers, 1)))


def _demand_a_gpu_for_each_rank(num_gpus: int) -> None:
    """Refuse to let processes share a GPU, which NCCL cannot do.

    Raises:
        UserError: if more processes than GPUs were started on this machine.
    """
    ranks = local_ranks()
    if ranks > num_gpus:
        raise UserError(
            f"{ranks} processes were started on this machine, which has {num_gpus} "
            f"GPU{'s' * (num_gpus > 1)}, and each needs one of its own. Start {num_gpus} "
            f"(--nproc_per_node={num_gpus}), or pass --device cpu."
        )


def _choose_kernels(*, deterministic: bool) -> None:
    """Let torch take only kernels that give the same bits each time, or any.

    Called before CUDA starts: cuBLAS reads its variable once.
    """
    import torch

    if deterministic and os.environ.get(CUBLAS_WORKSPACE) not in REPEATABLE_WORKSPACES:
        os.environ[CUBLAS_WORKSPACE] = REPEATABLE_WORKSPACES[0]
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic


def _forget_other_runtime(precision: str, *, on_cpu: bool) -> None:
    """Let a process that has run before run again, in another precision or on another device.

    accelerate keeps both for the life of the process.
    """
    from accelerate.state import AcceleratorState, is_initialized

    if not is_initialized():
        return
    state = AcceleratorState()
    if (state.mixed_precision, state.device.type == "cpu") != (precision, on_cpu):
        AcceleratorState._reset_state(reset_partial_state=state.num_processes == 1)


def local_ranks() -> int:
    """Number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_accelerator(device: "torch.device") -> bool:
    """True where one process drives the device, and the CPU's cores are free beside it."""
    return device.type != "cpu"
