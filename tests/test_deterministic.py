"""What --deterministic needs of us: that trainings keep to operators with kernels that repeat."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.segmentation import SEG_FLAGS, TRAIN_ONLY
from tests.helpers.tiny import Run, run

# Those that torch.use_deterministic_algorithms names as refused on CUDA, under the names that they
# have below autograd. Bilinear scaling is not among them: there it takes another form in training.
REFUSED = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "_ctc_loss_backward",
    "_embedding_bag_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "bincount",
    "fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "grid_sampler_2d_backward",
    "histc", "max_unpool2d", "max_unpool3d", "median", "nll_loss2d_forward", "nll_loss_forward",
    "put_", "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "scatter_reduce", "scatter_reduce_", "upsample_bicubic2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward",
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Notes the name of every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--steps=train_cam", "--cam_num_epoches=1", "--cam_train_from=0"],
        ["--steps=train_bes", "--bes_num_epoches=1"],
        [*TRAIN_ONLY, *SEG_FLAGS, "--seg_val_every=0", "--seg_iters=1", "--seg_seeds=0"],
    ],
    ids=["train_cam", "train_bes", "train_seg"],
)
def test_no_training_needs_a_kernel_that_does_not_repeat(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, flags: list[str]
) -> None:
    made = {
        "cam_weights_name": "weights/cam.pth",
        "boundary_label_dir": "boundary_label",
        "sem_seg_out_dir": "sem_seg",
    }
    if flags[0] == "--steps=train_cam":
        made = {}
    inputs = [f"--{flag}={finished_run.out_dir / path}" for flag, path in made.items()]
    with Recorder() as recorder:
        done = run(tiny_dataset, tmp_path / "out", *inputs, *flags)
    assert done.status == 0, done.stderr
    assert "convolution_backward" in recorder.names
    assert not recorder.names & REFUSED


def test_the_operators_of_torchs_own_loss_would_be_noticed() -> None:
    logits = torch.zeros(1, 2, 3, 3, requires_grad=True)
    with Recorder() as recorder:
        torch.nn.functional.cross_entropy(logits, torch.zeros(1, 3, 3).long()).backward()
    assert "nll_loss2d_forward" in recorder.names
