"""Sparse matrices in compressed rows (CSR) and their product, wherever torch runs."""

import functools
import warnings

import torch
from torch import Tensor


def csr_matrix(row_starts: Tensor, columns: Tensor, values: Tensor, num_columns: int) -> Tensor:
    """CSR matrix (R,num_columns) from `row_starts` (R+1,), `columns` and `values` (E,).

    int32 indices make products on the CPU faster. The invariants are the caller's promise.
    """
    _spend_beta_warning()
    return _csr(row_starts, columns, values, num_columns)


def csr_product(matrix: Tensor, x: Tensor, minus: Tensor | None = None) -> Tensor:
    """`matrix @ x` of a CSR matrix and (N,K), or `2 * matrix @ x - minus` in one pass."""
    if not x.is_cuda and not torch.backends.mkl.is_available():
        # Slower, but the only CSR product on a CPU that torch has everywhere.
        product = torch.sparse.mm(matrix, x, "sum")
        return product if minus is None else product.mul_(2).sub_(minus)
    return matrix @ x if minus is None else torch.addmm(minus, matrix, x, beta=-1, alpha=2)


def _csr(row_starts: Tensor, columns: Tensor, values: Tensor, num_columns: int) -> Tensor:
    size = (len(row_starts) - 1, num_columns)
    return torch.sparse_csr_tensor(row_starts, columns, values, size, check_invariants=False)


@functools.cache
def _spend_beta_warning() -> None:
    """Make one matrix so that torch's once-a-process beta warning is spent, unheard.

    Once, because `catch_warnings` must not run in several threads at a time.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        _csr(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), 1)
