"""Messages between two processes on this machine, and arrays in files that both of them map."""

import mmap
import os
import pickle
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock
from typing import IO, Any, Self

from numpy.typing import NDArray

from reference_db.durable_file import NO_ROOM
from reference_db.tensor_buffer import read_tensors, write_tensors
from service import errors

_HEAD_BYTES = 8

Arrays = Mapping[str, NDArray[Any]]


class ArrayFile:
    """Arrays in a temporary file without a name: no other process can open it, and no crash leaves it behind."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    @classmethod
    def of(cls, arrays: Arrays) -> Self:
        """Raises `StorageFull` or `StoreDown` if the disk of temporary files cannot take the arrays."""
        try:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - its owner closes it
            write_tensors(file, arrays)
            file.flush()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise errors.StorageFull("no space is left on the disk for temporary files") from error
            raise errors.StoreDown("the disk cannot store temporary files") from error
        return cls(file)

    def map(self) -> dict[str, NDArray[Any]]:
        """The arrays, as views of the mapped file. The file itself is closed."""
        with self.file:
            data = memoryview(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        arrays, _ = read_tensors(data)
        return arrays

    def close(self) -> None:
        self.file.close()


class Channel:
    """One end of a pair of connected sockets. Any thread may send; one thread receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = Lock()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: object, arrays: ArrayFile | None = None) -> None:
        """Sends a message. The other process maps the file of the arrays itself. Raises `OSError`."""
        body = pickle.dumps(message)
        with self._sending:
            descriptors = [] if arrays is None else [arrays.file.fileno()]
            socket.send_fds(self._socket, [len(body).to_bytes(_HEAD_BYTES, "big")], descriptors)
            self._socket.sendall(body)

    def receive(self) -> tuple[Any, ArrayFile | None]:
        """Waits for the next message. Raises `EOFError` when the other process has ended, and `OSError`."""
        head, descriptors, _, _ = socket.recv_fds(self._socket, _HEAD_BYTES, 1)
        arrays = ArrayFile(os.fdopen(descriptors[0], "rb")) if descriptors else None
        head += self._read(_HEAD_BYTES - len(head))
        return pickle.loads(self._read(int.from_bytes(head, "big"))), arrays

    def close(self) -> None:
        with suppress(OSError):  # the other process has ended
            self._socket.shutdown(socket.SHUT_RDWR)  # ends a `send` that waits
        with self._sending:
            self._socket.close()

    def _read(self, length: int) -> bytes:
        body = bytearray(length)
        left = memoryview(body)
        while left:
            received = self._socket.recv_into(left)
            if not received:
                raise EOFError
            left = left[received:]
        return bytes(body)
