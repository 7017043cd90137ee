"""Dense conditional random field: labels or probabilities sharpened by an image."""

from misc.crf.dense_crf import (
    DEEPLAB_CRF,
    MASK_CRF,
    SEED_CRF,
    Array,
    CrfParams,
    DenseCrf,
    crf_device,
    crf_has_threads,
)

__all__ = [
    "DEEPLAB_CRF",
    "MASK_CRF",
    "SEED_CRF",
    "Array",
    "CrfParams",
    "DenseCrf",
    "crf_device",
    "crf_has_threads",
]
