from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from misc.csr import csr_matrix, csr_product
from tests.helpers.cuda_kernels import needs_cuda_build, without_kernel
from tests.helpers.pretended_device import Record, pretending


@pytest.fixture
def record() -> Iterator[Record]:
    with pretending() as record:
        yield record


def kinds(record: Record) -> dict[str, int]:
    """What was waited for, wherever that was."""
    found: dict[str, int] = {}
    for (kind, _), count in record.waits.items():
        found[kind] = found.get(kind, 0) + count
    record.waits.clear()
    return found


def test_a_tensor_is_on_the_device_and_comes_back(record: Record) -> None:
    x = torch.arange(3.0).to(record.device)
    assert (x.device, x.is_cpu) == (record.device, False)
    assert (x + 1).device == torch.zeros(2, device=record.device).device == record.device
    assert (2 * x).cpu().numpy().tolist() == [0, 2, 4]
    assert torch.tensor([1, 2], device=record.device).tolist() == [1, 2]


@pytest.mark.parametrize(
    "mix",
    [
        lambda ours, theirs: ours + theirs,
        lambda ours, theirs: torch.cat([ours, theirs]),
        lambda ours, theirs: torch.stack([ours.sum(), theirs.sum()]),
        lambda ours, theirs: torch.maximum(ours, ours, out=theirs),
        lambda ours, theirs: ours.index_select(0, theirs.long()),
        lambda ours, theirs: theirs[ours.long()],
        lambda ours, _: nn.Linear(3, 1)(ours),
    ],
)
def test_tensors_of_two_devices_are_not_mixed(
    record: Record, mix: Callable[[Tensor, Tensor], Tensor]
) -> None:
    ours, theirs = torch.zeros(3, device=record.device), torch.zeros(3)
    with pytest.raises(RuntimeError, match="mixes devices"):
        mix(ours, theirs)


def test_a_number_of_the_cpu_is_taken_where_a_gpu_takes_it(record: Record) -> None:
    assert (torch.ones(2, device=record.device) * torch.tensor(3.0)).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda x: x.sum().item(), {"item": 1}),
        (lambda x: bool(x.any()), {"item": 1}),
        (lambda x: x.cpu(), {"to the CPU": 1}),
        (lambda x: x.tolist(), {"to the CPU": 1}),
        (lambda x: torch.zeros(3).copy_(x), {"to the CPU": 1}),
        (lambda x: x.new_tensor(2.0), {"from the CPU": 1}),
        (lambda x: torch.zeros(3).to(x.device), {"from the CPU": 1}),
        (lambda x: x.copy_(torch.zeros(3)), {"from the CPU": 1}),
        (lambda x: x.nonzero(), {"nonzero": 1}),
        (lambda x: torch.where(x > 0), {"nonzero": 1}),
        (lambda x: x[x > 0], {"boolean index": 1}),
        (lambda x: x.masked_select(x > 0), {"masked_select": 1}),
        (lambda x: x.unique(), {"unique": 1}),
        (lambda x: x.unique_consecutive(), {"unique_consecutive": 1}),
        (lambda x: torch.equal(x, x), {"equal": 1}),
        (lambda x: x.repeat_interleave(x.long()), {"repeat_interleave": 1}),
        (lambda x: x.repeat_interleave(x.long(), output_size=3), {}),
        (lambda x: torch.where(x > 0, x, 1).sort(), {}),
        (lambda x: x.new_full((), 2.0), {}),
        (lambda x: x.masked_fill_(x > 1, 0), {}),
        (lambda x: torch.zeros(3).to(x.device, non_blocking=True), {}),
        (lambda x: x.to(torch.float64).to(x.device), {}),
    ],
)
def test_what_a_gpu_would_be_waited_for_is_counted(
    record: Record, work: Callable[[Tensor], object], waits: dict[str, int]
) -> None:
    x = torch.arange(3.0, device=record.device)
    record.waits.clear()
    work(x)
    assert kinds(record) == waits
    assert not record.races


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.to("cpu", non_blocking=True),
        lambda x: torch.zeros(3).copy_(x, non_blocking=True),
    ],
)
def test_a_copy_that_nobody_waits_for_is_a_race(
    record: Record, copy: Callable[[Tensor], Tensor]
) -> None:
    copy(torch.ones(3, device=record.device))
    assert record.races.total() == 1


def test_waits_are_counted_from_item_to_item(record: Record) -> None:
    x = torch.ones(2, device=record.device)
    for item in record.counted("work", [0, 3, 1]):
        for _ in range(item):
            x.sum().item()
    assert record.of_items == {"work": [0, 0, 3, 1]}


def test_a_network_learns_there_what_it_learns_on_the_cpu(record: Record) -> None:
    def learn(device: torch.device) -> Tensor:
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        before = next(network.parameters())
        network.to(device)
        assert next(network.parameters()) is before
        for _ in range(2):
            optimizer.zero_grad()
            network(torch.ones(2, 2, 5, 5).to(device)).square().sum().backward()
            optimizer.step()
        return torch.cat([each.detach().cpu().flatten() for each in network.parameters()])

    assert torch.equal(learn(record.device), learn(torch.device("cpu")))


def test_sparse_matrices_are_multiplied_there(record: Record) -> None:
    starts = torch.tensor([0, 1, 2], dtype=torch.int32, device=record.device)
    columns = torch.tensor([1, 0], dtype=torch.int32, device=record.device)
    matrix = csr_matrix(starts, columns, torch.tensor([2.0, 3.0], device=record.device), 2)
    x = torch.tensor([[1.0], [10.0]], device=record.device)
    assert csr_product(matrix, x).tolist() == [[20], [3]]
    assert ("aten::mm", "SparseCsrCUDA") in record.operators
    with pytest.raises(RuntimeError, match="mixes devices"):
        csr_product(matrix, torch.ones(2, 1))


@needs_cuda_build
def test_an_operator_without_a_kernel_is_found(record: Record) -> None:
    torch.histogram(torch.ones(4, device=record.device), bins=2)
    assert without_kernel(record.operators) == ["aten::histogram.bin_ct"]


def test_nothing_works_there_once_the_pretence_is_over() -> None:
    with pretending() as record:
        x = torch.ones(3, device=record.device)
    with pytest.raises(RuntimeError, match="outside of"):
        x + 1
