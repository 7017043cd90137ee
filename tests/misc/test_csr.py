import numpy as np
import pytest
import torch

from misc.csr import csr_matrix, csr_product


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_mkl", [True, False])
def test_product(monkeypatch: pytest.MonkeyPatch, has_mkl: bool, dtype: torch.dtype) -> None:
    """Where torch lacks MKL another kernel multiplies."""
    if not has_mkl:
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(5, 7, generator=generator, dtype=dtype)
    dense *= dense > 0.5
    dense[2] = 0
    present = dense > 0
    row_starts = torch.zeros(6, dtype=torch.int32)
    row_starts[1:] = present.sum(1).cumsum(0)
    matrix = csr_matrix(row_starts, present.nonzero()[:, 1].int(), dense[present], 7)
    x = torch.rand(7, 3, generator=generator, dtype=dtype)
    minus = torch.rand(5, 3, generator=generator, dtype=dtype)
    kept = minus.clone()
    product = dense @ x
    np.testing.assert_allclose(csr_product(matrix, x), product, rtol=1e-6)
    np.testing.assert_allclose(csr_product(matrix, x, minus), 2 * product - minus, atol=1e-6)
    assert torch.equal(minus, kept)
