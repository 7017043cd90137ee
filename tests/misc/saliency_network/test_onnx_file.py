from collections.abc import Sequence

import pytest

from misc.errors import UserError
from misc.saliency_network.onnx_file import check_onnx
from tests.helpers.onnx_models import brightness_model, field, tensor_in_a_file

HIDDEN = tensor_in_a_file("hidden", (2,), "secret")


def nested(numbers: Sequence[int], content: bytes) -> bytes:
    """`content` inside fields of these numbers, the outermost first."""
    for number in reversed(numbers):
        content = field(number, content)
    return content


def test_a_whole_network_passes() -> None:
    check_onnx(brightness_model(), "tiny.onnx")


@pytest.mark.parametrize(
    "numbers",
    [
        (7, 5),  # an initial value of the graph
        (7, 1, 5, 5),  # of a node's attribute
        (7, 1, 5, 10),  # several of them
        (7, 1, 5, 6, 5),  # of a branch of the graph
        (7, 1, 5, 11, 1, 5, 6, 1, 5, 5),  # of a branch of a branch
        (7, 15, 1),  # the values of a sparse one
        (7, 15, 2),  # their places
        (7, 1, 5, 22, 1),
        (7, 1, 5, 23, 2),
        (25, 7, 5, 5),  # of a function
        (25, 11, 5),
        (20, 1, 5),  # of a training
        (20, 2, 1, 5, 5),
    ],
    ids=str,
)
def test_values_in_other_files_are_found_wherever_a_tensor_may_be(numbers: Sequence[int]) -> None:
    with pytest.raises(UserError, match="Export the network into a single file"):
        check_onnx(brightness_model() + nested(numbers, HIDDEN), "leak.onnx")
    check_onnx(brightness_model() + nested(numbers, field(8, "hidden")), "fine.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x08",  # no graph
        brightness_model()[:-1],
        b"\x3a\xff",  # a length that does not end
        b"\x3a" + b"\xff" * 12,  # nor within ten bytes
        b"\x3a\x05ab",  # longer than what is left
        b"\x3b\x00",  # a kind of field that is no longer in use
        b"\x0f",  # and one that never was
        b"<html>404</html>",
    ],
)
def test_what_is_no_onnx_file(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^odd is not an intact ONNX file. Replace it"):
        check_onnx(content, "odd")
