"""The rows of an SQLite file read without SQLite, from whatever pages are still good: for a file that it refuses.

Nothing here knows what the rows mean. The format: https://www.sqlite.org/fileformat.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO, NamedTuple

_LEAF = 0x0D
_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_FRAME = 24
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_U32 = Struct(">I").unpack_from

#: A column as it is stored. A blob that lies on a missing page is short.
Value = None | int | str | bytes


class Place(NamedTuple):
    """Where a row stands."""

    page: int
    cell: int


class Row(NamedTuple):
    """One row of some table. In `values` an INTEGER PRIMARY KEY is None: it is the `rowid`."""

    place: Place
    rowid: int
    values: tuple[Value, ...]


class Pages:
    """A file and its WAL as one: of every page the last good version that was committed. Close it."""

    def __init__(self, path: str, page_bytes: int) -> None:
        """Raises OSError. Either of the two files may be missing. `page_bytes` where neither of them says it."""
        self.page_bytes = page_bytes
        self._files: list[BinaryIO] = []
        self._file = self._opened(path)
        self._wal = self._opened(f"{path}-wal")
        head = self._file.read(_HEADER) if self._file else b""
        if head.startswith(_MAGIC):
            self.page_bytes = _page_bytes(struct.unpack_from(">H", head, 16)[0]) or page_bytes
        self._frames: dict[int, int] = {}
        #: What is wrong with the WAL although there is more behind it; empty: nothing.
        self.wal_trouble = ""
        self._read_wal()
        size = os.fstat(self._file.fileno()).st_size if self._file else 0
        self.count = max([size // self.page_bytes, *self._frames])
        self._free = self._freelist()

    @property
    def exists(self) -> bool:
        """Whether there is anything at all."""
        return bool(self._files)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def rows(self) -> Iterator[Row]:
        """Every row of every table that can be read, in no order; those of deleted rows' pages are left out."""
        for number in range(2, self.count + 1):
            if number not in self._free:
                page = self._page(number)
                for cell in range(struct.unpack_from(">H", page, 3)[0] if page[:1] == bytes([_LEAF]) else 0):
                    row = self._row(page, Place(number, cell))
                    if row is not None:
                        yield row

    def row(self, place: Place) -> Row | None:
        """The same row again."""
        return self._row(self._page(place.page), place)

    def _opened(self, path: str) -> BinaryIO | None:
        try:
            file = open(path, "rb")  # noqa: SIM115 closed by `close`
        except FileNotFoundError:
            return None
        self._files.append(file)
        return file

    def _page(self, number: int) -> bytes:
        at = self._frames.get(number)
        file = self._file if at is None else self._wal
        if file is None:
            return b""
        file.seek((number - 1) * self.page_bytes if at is None else at)
        return file.read(self.page_bytes)

    def _read_wal(self) -> None:
        """Frames that belong to this WAL, are whole, and stand before the last commit. A frame is checked against the
        sum that its predecessor says, so that one bad frame does not take along what is behind it."""
        head = self._wal.read(32) if self._wal else b""
        if self._wal is None or len(head) < 32 or _U32(head)[0] not in _WAL_MAGIC:
            return
        self.page_bytes = _page_bytes(_U32(head, 8)[0]) or self.page_bytes
        words = Struct(f"{'>' if _U32(head)[0] & 1 else '<'}{(self.page_bytes + 8) // 4}I")
        seed, at, number = struct.unpack_from(">II", head, 24), 32, 0
        waiting: dict[int, int] = {}
        broken = 0
        while len(frame := self._wal.read(_FRAME + self.page_bytes)) == _FRAME + self.page_bytes:
            number += 1
            page, committed = struct.unpack_from(">II", frame)
            told = struct.unpack_from(">II", frame, 16)
            if frame[8:16] == head[16:24] and _checksum(words, frame[:8] + frame[_FRAME:], seed) == told:
                waiting[page] = at + _FRAME
                if committed:
                    self._frames.update(waiting)
                    waiting.clear()
                    if broken:
                        self.wal_trouble = f"frame {broken} of its -wal file is damaged, and there is more behind it"
            elif frame[8:16] == head[16:24]:
                broken = broken or number
            seed, at = told, at + len(frame)

    def _freelist(self) -> set[int]:
        free: set[int] = set()
        head = self._page(1)
        trunk = _U32(head, 32)[0] if head.startswith(_MAGIC) else 0
        while 0 < trunk <= self.count and trunk not in free:
            free.add(trunk)
            page = self._page(trunk)
            if len(page) < self.page_bytes:
                break
            trunk, leaves = struct.unpack_from(">II", page)
            if leaves > self.page_bytes // 4 - 2:
                break
            free.update(struct.unpack_from(f">{leaves}I", page, 8))
        return free

    def _row(self, page: bytes, place: Place) -> Row | None:
        try:
            at = struct.unpack_from(">H", page, 8 + 2 * place.cell)[0]
            size, at = _varint(page, at)
            rowid, at = _varint(page, at)
            return Row(place, rowid, _values(self._payload(page, at, size)))
        except (IndexError, ValueError, struct.error):
            return None

    def _payload(self, page: bytes, at: int, size: int) -> bytes:
        usable = self.page_bytes
        if size > self.count * usable:
            raise ValueError("larger than the file")
        local = size
        if size > usable - 35:
            least = (usable - 12) * 32 // 255 - 23
            local = least + (size - least) % (usable - 4)
            local = local if local <= usable - 35 else least
        parts = [page[at : at + local]]
        more, left = (_U32(page, at + local)[0] if local < size else 0), size - local
        while more and left > 0:
            overflow = self._page(more)
            if len(overflow) < usable:
                break
            parts.append(overflow[4 : 4 + left])
            left -= usable - 4
            more = _U32(overflow)[0]
        return b"".join(parts)


def _page_bytes(told: int) -> int:
    size = 65536 if told == 1 else told
    return size if 512 <= size <= 65536 and not size & (size - 1) else 0


def _checksum(words: Struct, data: bytes, seed: tuple[int, ...]) -> tuple[int, int]:
    one, two = seed
    numbers = iter(words.unpack(data))
    for first, second in zip(numbers, numbers, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64 if value >> 63 else 0), at + 9


def _values(record: bytes) -> tuple[Value, ...]:
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values: list[Value] = []
    for kind in kinds:
        value, end = _value(record, end, kind)
        values.append(value)
    return tuple(values)


def _value(record: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind >= 12:
        stop = at + (kind - 12) // 2
        return (record[at:stop].decode() if kind & 1 else record[at:stop]), stop
    if kind in (8, 9):
        return kind - 8, at
    if kind == 0:
        return None, at
    stop = at + _INTEGER_BYTES[kind]
    if stop > len(record):
        raise ValueError("the record is cut")
    return int.from_bytes(record[at:stop], "big", signed=True), stop
