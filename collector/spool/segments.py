"""The lines of the spool's files: length, checksum and number before each record.

A line is 8 hexadecimal digits of length, 8 of CRC-32 and 12 of its number, then compact JSON
without newlines. Lines are numbered from 1, so a reader knows how many are missing, whatever
became of them on the disk.
"""

import os
import zlib
from collections.abc import Iterator

_HEADER_BYTES = 31
CHUNK_BYTES = 1 << 20


def frame(payload: bytes, number: int) -> bytes:
    """Return one line."""
    checksum = zlib.crc32(b"%x" % number, zlib.crc32(payload))
    return b"%08x %08x %012x %b\n" % (len(payload), checksum, number, payload)


def unframe(line: bytes) -> tuple[int, bytes] | None:
    """Return number and JSON of a line without its newline; None if it is torn or damaged."""
    payload = line[_HEADER_BYTES:]
    try:
        length, checksum, number = int(line[:8], 16), int(line[9:17], 16), int(line[18:30], 16)
    except ValueError:
        return None
    whole = len(payload) == length and zlib.crc32(b"%x" % number, zlib.crc32(payload)) == checksum
    return (number, payload) if whole else None


def read_lines(descriptor: int, start: int, end: int, most_bytes: int) -> tuple[list[bytes], int]:
    """Return the lines between two offsets, without newlines, and where the next one begins.

    They are about `most_bytes`, but one line at least. A torn line at `end` is returned too.
    """
    wanted = min(most_bytes, end - start)
    while True:
        data = os.pread(descriptor, wanted, start)
        reaches_end = start + len(data) >= end or len(data) < wanted
        cut = len(data) if reaches_end else data.rfind(b"\n") + 1
        if cut:
            return data[:cut].removesuffix(b"\n").split(b"\n"), start + cut
        if not data:  # the file is shorter than it should be
            return [], end
        wanted = min(2 * wanted, end - start)


def lines_from(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the lines between two offsets."""
    while start < end:
        lines, start = read_lines(descriptor, start, end, CHUNK_BYTES)
        yield from lines


def last_number(descriptor: int, size: int, before: int) -> int:
    """Return the number of a file's last line; torn lines count on from the one before them."""
    last = before
    for line in lines_from(descriptor, 0, size):
        numbered = unframe(line)
        last = last + 1 if numbered is None else numbered[0]
    return max(last, before)
