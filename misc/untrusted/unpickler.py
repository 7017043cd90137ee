"""A pickle reader that runs nothing: it knows few opcodes, and names only from a table."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from misc.untrusted.stored_array import Refused, Span, printable

EAGER_BYTES = 4096  # longer byte strings stay in the file until somebody asks for them
DAMAGE = (IndexError, KeyError, TypeError, ValueError, OverflowError, EOFError, struct.error)


@dataclass(frozen=True, eq=False)
class Name:
    """What an admitted global stands for: `make` builds the value, None if it is not called."""

    label: str
    make: Callable[..., object] | None = None


class Buildable(ABC):
    """A value of ours that takes a pickled state."""

    @abstractmethod
    def set_state(self, state: Any) -> None:
        """Take the state, or raise Refused."""


class PickleReader:
    """Reads one pickle (protocols 2 to 5, as numpy and torch write them) from `source`.

    No class is looked up and no attribute set: a global is a key into `names`, a call is a call
    of what stands there, a state goes only to a `Buildable`. Memory is bounded by the size of
    `source` and by `max_opcodes`.
    """

    def __init__(
        self,
        source: Span,
        names: Mapping[tuple[str, str], Name],
        *,
        max_opcodes: int,
        persistent: Callable[[Any], object] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            source: the bytes; `position` says where in them the pickle ended.
            names: (module, name) -> what is admitted under it.
            max_opcodes: longer pickles are refused (each opcode costs about 100 bytes).
            persistent: turns a persistent id (torch's storages) into a value.
        """
        self.source, self.names, self.persistent = source, names, persistent
        self.max_opcodes = max_opcodes
        self.position = 0
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._bytes_made = 0

    def load(self) -> Any:
        """The pickled value.

        Raises:
            Refused: with the reason.
        """
        self.source.file.seek(self.source.start)
        try:
            for _ in range(self.max_opcodes):
                opcode = self._take(1)
                if opcode == b".":
                    return self._stack.pop()
                if opcode not in OPCODES:
                    raise Refused(f"it uses the pickle opcode {opcode!r}, which no array needs")
                action, argument = OPCODES[opcode]
                action(self, argument)
        except DAMAGE as error:
            raise Refused(f"it is damaged near byte {self.position} of its pickle") from error
        raise Refused(f"it has more than {self.max_opcodes} pickle opcodes")

    def _take(self, size: int) -> bytes:
        self.position += size
        if self.position > self.source.size:
            raise Refused("it is truncated: it ends inside a pickle")
        return self.source.file.read(size)

    def _unsigned(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _line(self) -> str:
        line = self.source.file.readline(300)
        self.position += len(line)
        if not line.endswith(b"\n") or self.position > self.source.size:
            raise Refused("it is truncated or damaged: a name does not end")
        return line[:-1].decode()

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _skip(self, size: int) -> None:
        # Protocol and frame headers are hints only.
        self._take(size)

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_new(self, kind: type) -> None:
        self._stack.append(kind())

    def _push_number(self, code: str) -> None:
        self._stack.append(struct.unpack(code, self._take(struct.calcsize(code)))[0])

    def _push_long(self, width: int) -> None:
        self._stack.append(int.from_bytes(self._take(self._unsigned(width)), "little", signed=True))

    def _push_text(self, width: int) -> None:
        self._stack.append(self._take(self._unsigned(width)).decode("utf-8", "surrogatepass"))

    def _push_bytes(self, width: int) -> None:
        size = self._unsigned(width)
        if size <= EAGER_BYTES:
            self._stack.append(self._take(size))
            return
        self._stack.append(self.source.part(self.position, size))
        self.position += size
        self.source.file.seek(self.source.start + self.position)

    def _push_tuple(self, size: int) -> None:
        items = [self._stack.pop() for _ in range(size)]
        self._stack.append(tuple(reversed(items)))

    def _push_marked_tuple(self, _: None) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def _mark(self, _: None) -> None:
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _append(self, marked: bool) -> None:
        items = self._pop_to_mark() if marked else [self._stack.pop()]
        if type(self._stack[-1]) is not list:
            raise Refused(f"it appends to a {type(self._stack[-1]).__name__}")
        self._stack[-1].extend(items)

    def _set_items(self, marked: bool) -> None:
        items = self._pop_to_mark() if marked else [self._stack.pop(-2), self._stack.pop()]
        if type(self._stack[-1]) is not dict:
            raise Refused(f"it sets items of a {type(self._stack[-1]).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._stack[-1][_checked_key(key)] = value

    def _memoize(self, width: int | None) -> None:
        index = len(self._memo) if width is None else self._unsigned(width)
        self._memo[index] = self._stack[-1]

    def _recall(self, width: int) -> None:
        self._stack.append(self._memo[self._unsigned(width)])

    def _push_global(self, on_stack: bool) -> None:
        if on_stack:
            name, module = self._stack.pop(), self._stack.pop()
        else:
            module, name = self._line(), self._line()
        if type(module) is not str or type(name) is not str:
            raise Refused("it asks for something whose name is not a string")
        if (module, name) not in self.names:
            asked = printable(f"{module}.{name}")
            raise Refused(f"it asks for {asked}, which is neither array nor tensor")
        self._stack.append(self.names[module, name])

    def _refuse_instance(self, _: None) -> None:
        module, name = self._line(), self._line()
        raise Refused(f"it makes an instance of {printable(f'{module}.{name}')}")

    def _call(self, _: None) -> None:
        arguments, callee = self._stack.pop(), self._stack.pop()
        if type(callee) is not Name or callee.make is None or type(arguments) is not tuple:
            shown = callee.label if type(callee) is Name else f"a {type(callee).__name__}"
            raise Refused(f"it calls {shown}")
        result = callee.make(*arguments)
        if type(result) is bytes:
            # One string of the file may be encoded again and again.
            self._bytes_made += len(result)
            if self._bytes_made > self.source.size:
                raise Refused("it makes more bytes than it has")
        self._stack.append(result)
        # A tensor's storage is a pickle within the pickle: reading it moved the file.
        self.source.file.seek(self.source.start + self.position)

    def _build(self, _: None) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(target, Buildable):
            raise Refused(f"it sets the state of a {type(target).__name__}")
        target.set_state(state)

    def _push_persistent(self, _: None) -> None:
        if self.persistent is None:
            raise Refused("it has a persistent id outside a tensor")
        self._stack.append(self.persistent(self._stack.pop()))


def _checked_key(key: object) -> str | int:
    # Only flat keys: hashing a deep tuple recurses in C until the stack is gone.
    if type(key) is str or type(key) is int:
        return key
    if isinstance(key, np.integer):
        return int(key)
    raise Refused(f"a dict has a {type(key).__name__} as key")


OPCODES: dict[bytes, tuple[Callable[[PickleReader, Any], None], Any]] = {
    b"\x80": (PickleReader._skip, 1),  # PROTO
    b"\x95": (PickleReader._skip, 8),  # FRAME
    b"N": (PickleReader._push, None),
    b"\x88": (PickleReader._push, True),
    b"\x89": (PickleReader._push, False),
    b"]": (PickleReader._push_new, list),
    b"}": (PickleReader._push_new, dict),
    b"K": (PickleReader._push_number, "<B"),
    b"M": (PickleReader._push_number, "<H"),
    b"J": (PickleReader._push_number, "<i"),
    b"G": (PickleReader._push_number, ">d"),
    b"\x8a": (PickleReader._push_long, 1),
    b"\x8c": (PickleReader._push_text, 1),
    b"X": (PickleReader._push_text, 4),
    b"\x8d": (PickleReader._push_text, 8),
    b"C": (PickleReader._push_bytes, 1),
    b"B": (PickleReader._push_bytes, 4),
    b"\x8e": (PickleReader._push_bytes, 8),
    b"\x96": (PickleReader._push_bytes, 8),  # BYTEARRAY8
    b")": (PickleReader._push_tuple, 0),
    b"\x85": (PickleReader._push_tuple, 1),
    b"\x86": (PickleReader._push_tuple, 2),
    b"\x87": (PickleReader._push_tuple, 3),
    b"t": (PickleReader._push_marked_tuple, None),
    b"(": (PickleReader._mark, None),
    b"a": (PickleReader._append, False),
    b"e": (PickleReader._append, True),
    b"s": (PickleReader._set_items, False),
    b"u": (PickleReader._set_items, True),
    b"\x94": (PickleReader._memoize, None),
    b"q": (PickleReader._memoize, 1),
    b"r": (PickleReader._memoize, 4),
    b"h": (PickleReader._recall, 1),
    b"j": (PickleReader._recall, 4),
    b"c": (PickleReader._push_global, False),
    b"\x93": (PickleReader._push_global, True),  # STACK_GLOBAL
    b"i": (PickleReader._refuse_instance, None),
    b"R": (PickleReader._call, None),
    b"b": (PickleReader._build, None),
    b"Q": (PickleReader._push_persistent, None),  # BINPERSID
}
