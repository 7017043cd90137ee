"""A saliency network, run by onnxruntime: a photograph in, a map out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from misc.errors import UserError
from misc.saliency_network.models import Recipe
from misc.saliency_network.onnx_file import check_onnx
from misc.transforms import resize

if TYPE_CHECKING:
    import torch

DEFAULT_SIDE = 320  # where neither the recipe nor the file says one
IMAGES_AT_ONCE = 8  # on a GPU, where the file leaves that open
TOLERANCE = 1e-3  # of a sigmoid's range: half precision rounds

Size = tuple[int, int]


class SaliencyNetwork:
    """A network that takes photographs and gives a probability for each pixel.

    Attributes:
        size: (h,w) of what it sees.
        batch: how many photographs it takes at once.
        device: where it runs: CPU or CUDA.
    """

    def __init__(
        self, path: Path, recipe: Recipe, *, device: "torch.device | None" = None, threads: int = 0
    ) -> None:
        """Load an ONNX file with one input, RGB, and the map as its first output.

        Args:
            path: the file; nothing but this file is read.
            recipe: how the network wants its photographs.
            device: where it shall run; a CUDA device counts if this onnxruntime knows CUDA.
            threads: at most so many on the CPU; 0: one for each core.

        Raises:
            UserError: if onnxruntime is missing, or the file is not such a network.
        """
        self.path, self.recipe = path, recipe
        self._session = _session(path, device, threads)
        provider = self._session.get_providers()[0]
        self.device = provider.removesuffix("ExecutionProvider")
        (self._input, *others) = self._session.get_inputs()
        self._output = self._session.get_outputs()[0].name
        shape = self._input.shape
        if others or self._input.type != "tensor(float)" or len(shape) != 4 or 3 not in shape[1::2]:
            takes = ", ".join(f"{each.type} {each.shape}" for each in self._session.get_inputs())
            raise UserError(
                f"{path}: its input is {takes}. It must be one photograph, float32 (1,3,H,W) or "
                "(1,H,W,3). Export the network like that."
            )
        self._channels_last = shape[1] != 3
        self.size = self._size(shape[1:3] if self._channels_last else shape[2:])
        self.batch = self._batch(shape[0])

    def _size(self, shape: Any) -> Size:
        """What the file says, where it does; else what the recipe says."""
        side = self.recipe.size
        height, width = (each if isinstance(each, int) else side or DEFAULT_SIDE for each in shape)
        if side and (height, width) != (side, side):
            raise UserError(
                f"{self.path} takes photographs of {width}x{height}, not {side}x{side}. Leave out "
                "--saliency_model_size."
            )
        return height, width

    def _batch(self, count: Any) -> int:
        if not isinstance(count, int):
            return IMAGES_AT_ONCE if self.device == "CUDA" else 1
        if count != 1:
            raise UserError(
                f"{self.path} takes {count} photographs at once. Export it for one, or for any "
                "number."
            )
        return 1

    def maps(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps (B,h,w), 0..1, of photographs (B,3,h,w) that were prepared; B at most `batch`.

        Raises:
            UserError: if what comes out is no such map.
        """
        x = prepared.transpose(0, 2, 3, 1) if self._channels_last else prepared
        (out,) = self._session.run([self._output], {self._input.name: np.ascontiguousarray(x)})
        maps = np.asarray(out)
        if maps.ndim == 4 and 1 in maps.shape[1::2]:
            maps = maps[:, 0] if maps.shape[1] == 1 else maps[..., 0]
        if maps.ndim != 3 or len(maps) != len(prepared) or maps.dtype.kind != "f":
            raise UserError(
                f"{self.path}: its first output is {maps.dtype} {np.shape(out)}, not one map of "
                "each photograph, float (1,1,h,w). Export the network like that."
            )
        maps = maps.astype(np.float32)
        low, high = float(maps.min()), float(maps.max())
        if not (-TOLERANCE <= low <= high <= 1 + TOLERANCE):  # NaN is not, either
            remedy = (
                "Pass another network."
                if np.isnan(low)
                else "If these are logits, export the network with a sigmoid at its end."
            )
            raise UserError(f"{self.path}: its output is {low:g} to {high:g}, not 0 to 1. {remedy}")
        return np.clip(maps, 0, 1)

    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Saliency (H,W), 0..1, of a photograph (H,W,3), as the network says it: not stretched.

        Raises:
            UserError: if what comes out is no such map.
        """
        small = self.maps(prepare(image, self.recipe, self.size)[None])[0]
        return enlarge(small, (image.shape[0], image.shape[1]))


def prepare(image: NDArray[np.uint8], recipe: Recipe, size: Size) -> NDArray[np.float32]:
    """A photograph (H,W,3) as a network wants it: (3,h,w) of `size`, by its recipe."""
    small = resize(image, size, Image.Resampling.BILINEAR)
    white = max(int(small.max()), 1) if recipe.by_maximum else 255
    normal = (small / white - recipe.mean) / recipe.std
    return np.ascontiguousarray(normal.transpose(2, 0, 1), dtype=np.float32)


def enlarge(small: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """A map (h,w) at the size (H,W) of its photograph, bilinearly."""
    return resize(small, size, Image.Resampling.BILINEAR)


def _session(path: Path, device: "torch.device | None", threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"Saliency networks need onnxruntime ({error}): pip install onnxruntime"
        ) from None
    content = path.read_bytes()
    check_onnx(content, str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what goes wrong is raised
    # Threads that wait for work busily take the cores from the processes that read photographs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(content, options, _providers(device))
    except Exception as error:  # a parser, a graph, a provider: each has errors of its own
        raise UserError(
            f"{path}: onnxruntime cannot run it: {error}. Export it again, or pass another."
        ) from None


def _providers(device: "torch.device | None") -> list[Any]:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    if device is None or device.type != "cuda" or cuda not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    # float32 throughout, as the networks in torch.
    return [(cuda, {"device_id": device.index or 0, "use_tf32": 0}), "CPUExecutionProvider"]
