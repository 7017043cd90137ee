"""What an ONNX file may not hold: values that are read from other files.

onnxruntime runs no code of a file. But a tensor may name another file, relative to the working
directory where the model came as bytes, and what it holds would neither be fingerprinted nor be
the network's. So the file is walked over as what it is, a protobuf, before it is loaded.
"""

from collections.abc import Iterator

from misc.errors import UserError

MODEL, TRAINING, GRAPH, NODE, ATTRIBUTE = "model", "training", "graph", "node", "attribute"
FUNCTION, TENSOR, SPARSE = "function", "tensor", "sparse tensor"

# Message -> number of a field -> message that it holds, where that leads to tensors (onnx.proto).
MESSAGES = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    TRAINING: {1: GRAPH, 2: GRAPH},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TENSOR: {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # of a tensor
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def check_onnx(content: bytes, name: str) -> None:
    """Refuse what is no ONNX file, or not all of one.

    Args:
        content: of the file.
        name: of the file, for the message.

    Raises:
        UserError: with a remedy.
    """
    waiting = [(MODEL, memoryview(content))]
    has_graph = False
    try:
        while waiting:
            message, data = waiting.pop()
            has_graph |= message == GRAPH
            for key, value in _fields(data):
                if message == TENSOR and key in (EXTERNAL_DATA, DATA_LOCATION) and value:
                    raise UserError(
                        f"{name}: its weights lie in other files, which are not read. Export the "
                        "network into a single file."
                    )
                inner = MESSAGES[message].get(key)
                if inner is not None and isinstance(value, memoryview):
                    waiting.append((inner, value))
    except ValueError:
        has_graph = False
    if not has_graph:
        raise UserError(f"{name} is not an intact ONNX file. Replace it, or pass another.")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; of numbers that are no varint, 0.

    Raises:
        ValueError: if it is no protobuf.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        key, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        else:
            length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, -1)
        if length < 0 or at + length > len(data):
            raise ValueError("it is no protobuf")
        yield key, data[at : at + length] if kind == _BYTES else 0
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte and the lowest first, and where the next byte is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError("it is no protobuf")
