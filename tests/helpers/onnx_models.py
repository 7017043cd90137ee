"""Tiny ONNX files, written by hand: the tests need no package that writes them.

A message of protobuf is a list of fields; a field has a number, and holds a number or bytes. The
numbers are those of onnx.proto.
"""

from collections.abc import Sequence

FLOAT = 1
Dim = int | str
Attribute = int | bytes | Sequence[int]


def number(value: int) -> bytes:
    """A whole number, 7 bits a byte, the lowest first."""
    value &= (1 << 64) - 1
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127)
    return bytes(part | 128 for part in parts[:-1]) + bytes(parts[-1:])


def field(key: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return number(key << 3) + number(value)
    content = value.encode() if isinstance(value, str) else value
    return number(key << 3 | 2) + number(len(content)) + content


def fields(key: int, values: Sequence[int | str | bytes]) -> bytes:
    return b"".join(field(key, value) for value in values)


def array(name: str, shape: Sequence[Dim], kind: int = FLOAT) -> bytes:
    """What a graph takes or gives: a name and a shape, whose open dimensions have names."""
    dims = [field(2 if isinstance(dim, str) else 1, dim) for dim in shape]
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, fields(1, dims))))


def tensor_in_a_file(name: str, shape: Sequence[int], place: str) -> bytes:
    """A tensor whose values lie in another file."""
    entry = field(1, "location") + field(2, place)
    return fields(1, shape) + field(2, FLOAT) + field(8, name) + field(13, entry) + field(14, 1)


def node(kind: str, inputs: Sequence[str], output: str, attributes: dict[str, Attribute]) -> bytes:
    made = fields(1, inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            content, of_kind = field(3, value), 2
        elif isinstance(value, bytes):  # a tensor
            content, of_kind = field(5, value), 4
        else:
            content, of_kind = fields(8, value), 7
        made += field(5, field(1, name) + content + field(20, of_kind))
    return made


def model(
    nodes: Sequence[bytes], takes: bytes, gives: bytes, tensors: Sequence[bytes] = ()
) -> bytes:
    """The bytes of an ONNX file."""
    graph = (
        fields(1, nodes) + field(2, "tiny") + fields(5, tensors) + field(11, takes)
        + field(12, gives)
    )  # fmt: skip
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def brightness_model(
    shape: Sequence[Dim] = (1, 3, 24, 32), ends: Sequence[str] = ("Sigmoid",), channels: int = 1
) -> bytes:
    """A saliency network: bright is salient.

    Args:
        shape: of the input, channels second or last.
        ends: what is done, one after the other, with the mean over the channels.
        channels: of the output, all the same.
    """
    axis = 1 if shape[1] == 3 else 3
    out = [*shape]
    out[axis] = channels
    steps = ["mean", *(f"after {kind}" for kind in ends)]
    nodes = [
        node("ReduceMean", ["image"], "mean", {"axes": [axis], "keepdims": 1}),
        *(node(kind, [steps[k]], steps[k + 1], {}) for k, kind in enumerate(ends)),
        node("Concat", [steps[-1]] * channels, "map", {"axis": axis}),
    ]
    return model(nodes, array("image", shape), array("map", out))


def leaking_model(place: str, *, in_a_node: bool) -> bytes:
    """A network that gives what the file `place` holds, 24 x 32 numbers, whatever it sees."""
    shape = (1, 1, 24, 32)
    tensor = tensor_in_a_file("hidden", shape, place)
    nodes = [
        node("ReduceMean", ["image"], "mean", {"axes": [1], "keepdims": 1}),
        node("Sub", ["mean", "mean"], "nothing", {}),
        node("Add", ["nothing", "hidden"], "map", {}),
    ]
    if in_a_node:
        nodes.insert(0, node("Constant", [], "hidden", {"value": tensor}))
    tensors = [] if in_a_node else [tensor]
    return model(nodes, array("image", (1, 3, 24, 32)), array("map", shape), tensors)
