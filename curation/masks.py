"""What differs between two runs of the same thing, replaced by its kind: for comparison only.

Times, UUIDs, addresses, folders, ports, hashes and long numbers say where and when a text was made,
not what it is about. Small numbers stay: two functions that differ by one constant are two
functions. The patterns are slow and few lines need them, so the lines that may hold something are
found first, over the bytes of many texts at once.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.memory import keep_freed_memory

Codes: TypeAlias = NDArray[np.uint8]
Places: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

_LONG, _DATE, _CLOCK, _ADDRESS, _PATH = (1 << number for number in range(5))
"""What a place may hold: long hexadecimal runs, dates, clocks or ports, addresses, paths."""

_MASKS: Final = tuple(
    (kind, needed, re.compile(pattern), mask)
    for kind, needed, pattern, mask in (
        (_LONG, "-", r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (
            _DATE,
            "-",
            r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}"
            r"(?:[t ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)?"
            r"(?:z|[+-][0-9]{2}:?[0-9]{2})?\b",
            "<time>",
        ),
        (_CLOCK, ":", r"\b[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?\b", "<time>"),
        (_ADDRESS, ".", r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?::[0-9]{2,5})?\b", "<address>"),
        # Bounded, or a line of a million dots would cost a million squared.
        (_CLOCK, ":", r"\b(localhost|[\w-]{1,63}\.[\w.-]{0,99}\w):[0-9]{2,5}\b", r"\1:<port>"),
        (_LONG, "0x", r"\b0x[0-9a-f]{8,16}\b", "<pointer>"),
        # The last part of a path names what the task is about; the folders are the machine's.
        (_PATH, "~/", r"(?<![\w/.<>])~/(?:[\w.\-]+/)+(?=[\w.\-])", "<folder>/"),
        (_PATH, ":/", r"(?<![\w/.<>])[a-z]:/(?:[\w.\-]+/)+(?=[\w.\-])", "<folder>/"),
        (_PATH, "/", r"/(?<![\w/.<>]/)(?:[\w.\-]+/)+(?=[\w.\-])", "<folder>/"),
        (_PATH, ":\\", r"(?<!\w)[a-z]:\\(?:[\w.\- ]+\\)+", "<folder>/"),
        (_LONG, "", r"\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{12,64}\b", "<hash>"),
        # Epoch milliseconds and ids; shorter numbers may be constants (1000000007).
        (_LONG, "", r"\b[0-9]{12,}\b", "<number>"),
    )
)
"""Kind, what a line must hold for the pattern to be worth a try, pattern, mask."""

_WRITTEN_OTHERWISE: Final = {
    **dict.fromkeys("“”„«»", '"'),
    **dict.fromkeys("‘’‚´", "'"),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    "…": "...",
}
"""Marks that an editor or a model sets in place of the ones on the keyboard."""
_STANDS_ALONE: Final = re.compile(
    r"[^\x00-\x7f\w]|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Signs beyond ASCII, and the letters of scripts that set no space between words."""

_COMBINING: Final = (b"\xcc", b"\xcd")
"""First bytes of the accents that are set after their letter (U+0300 to U+036F)."""
_LETTERS: Final = [bytes([code]).decode("latin-1") for code in range(256)]
_IN_NAME: Final = np.array([c.isalnum() or c in "_.-" or c >= "\x80" for c in _LETTERS])
_BEFORE_PATH: Final = np.array([c >= "\x80" or not (c.isalnum() or c in "_/.<>") for c in _LETTERS])
_APART: Final = b"\n\0"
"""Stands between texts, so that the lines of one end where it does."""
_BYTES_AT_ONCE: Final = 1 << 17
"""Of texts, so that what is made of them stays in a core's cache."""
_LONGEST_OCTET: Final = 4
"""With its dot."""
_SIDE: Final = 8
"""Bytes set before and after the texts, so that every place has neighbours."""
_FOUR_TRUE: Final = np.uint32(0x01010101)


def masked(text: str) -> str:
    """Return `text` in lower case, masked; white space stays."""
    return decoded(masked_bytes([text])[0])


def masked_bytes(texts: Sequence[str]) -> list[bytes]:
    """Return the texts in lower case and masked, as UTF-8; white space stays as it was."""
    keep_freed_memory()
    masked: list[bytes] = []
    block: list[bytes] = []
    n_bytes = 0
    for text in texts:
        raw = _encoded(text)
        block.append(raw)
        n_bytes += len(raw)
        if n_bytes >= _BYTES_AT_ONCE:
            masked += _masked_block(block)
            block, n_bytes = [], 0
    return masked + _masked_block(block) if block else masked


def masked_line(line: str, kinds: int = -1) -> str:
    """Return a lower-case line with the patterns of some kinds (a bit set) replaced by masks."""
    for kind, needed, pattern, mask in _MASKS:
        if kinds & kind and needed in line:
            line = pattern.sub(mask, line)
    return line


def decoded(raw: bytes) -> str:
    """Return masked bytes as text."""
    return raw.decode("utf-8", "surrogatepass")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _masked_block(block: list[bytes]) -> list[bytes]:
    whole = _APART.join(block)
    if whole.count(b"\0") != len(block) - 1:
        whole = _APART.join(raw.replace(b"\0", b" ") for raw in block)
    if any(mark in whole for mark in _COMBINING):
        whole = _APART.join(_composed(raw) for raw in whole.split(_APART))
    return _masked_lines(_plain(whole.lower())).split(_APART)


def _composed(raw: bytes) -> bytes:
    """Return UTF-8 with accents as part of their letters."""
    if any(mark in raw for mark in _COMBINING):
        return _encoded(unicodedata.normalize("NFC", decoded(raw)))
    return raw


def _plain(whole: bytes) -> bytes:
    """Return UTF-8 in lower case beyond ASCII too, what is a word by itself standing apart."""
    if whole.isascii():
        return whole
    is_beyond = np.frombuffer(b"\0" + whole + b"\0", dtype=np.uint8) >= 128
    edges = np.flatnonzero(is_beyond[1:] != is_beyond[:-1]).tolist()
    pieces = []
    done = 0
    for start, stop in zip(edges[0::2], edges[1::2], strict=True):
        pieces += [whole[done:start], _plain_run(whole[start:stop])]
        done = stop
    return b"".join([*pieces, whole[done:]])


@lru_cache(maxsize=1 << 14)
def _plain_run(run: bytes) -> bytes:
    """Return what a run of characters beyond ASCII is compared as."""
    return _encoded(_STANDS_ALONE.sub(_set_apart, decoded(run).lower()))


def _set_apart(found: re.Match[str]) -> str:
    usual = _WRITTEN_OTHERWISE.get(found[0])
    if usual is not None:
        return usual
    return " " if found[0].isspace() else f" {found[0]} "


def _masked_lines(whole: bytes) -> bytes:
    """Return texts, told apart by `_APART`, with all masked that is to be."""
    pieces = []
    done = 0
    for start, stop, kinds in _suspect_lines(whole):
        line = masked_line(decoded(whole[start:stop]), kinds)
        pieces += [whole[done:start], _encoded(line)]
        done = stop
    return b"".join([*pieces, whole[done:]]) if pieces else whole


def _suspect_lines(whole: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and the kinds (a bit set) of each line that may hold something to mask."""
    codes = np.frombuffer(bytes(_SIDE) + whole + bytes(2 * _SIDE - len(whole) % _SIDE), np.uint8)
    found = [*_number_like(codes), (_PATH, _path_like(codes))]
    places = np.concatenate([each for _, each in found]) - _SIDE
    kinds = np.repeat([kind for kind, _ in found], [len(each) for _, each in found])
    order = np.argsort(places)
    start = stop = of_line = 0
    for place, kind in zip(places[order].tolist(), kinds[order].tolist(), strict=True):
        if place >= stop:
            if of_line:
                yield start, stop, of_line
            start, stop, of_line = *_line_around(whole, place), 0
        of_line |= kind
    if of_line:
        yield start, stop, of_line


def _line_around(whole: bytes, place: int) -> tuple[int, int]:
    stop = whole.find(b"\n", place)
    return whole.rfind(b"\n", 0, place) + 1, stop if stop >= 0 else len(whole)


def _number_like(codes: Codes) -> list[tuple[int, Places]]:
    """Return, by kind, where a hash, pointer, number, time, address or port may be."""
    digit = (codes - np.uint8(48)) < 10
    first = np.flatnonzero(digit[1:] > digit[:-1]) + 1
    marks = codes[first - 1]
    dashed, timed, dotted = first[marks == 45], first[marks == 58], first[marks == 46]
    # Of four numbers the second and the third stand between dots, of a version's three one does.
    octets = dotted[digit[dotted - 2] & (codes[_ends(digit, dotted)] == 46)]
    return [
        (_LONG, _hexadecimal_runs(codes, digit)),
        (_DATE, dashed[digit[dashed - 2] & digit[dashed + 1] & (codes[dashed + 2] == 45)]),
        (_CLOCK, timed[digit[timed + 1]]),
        (_ADDRESS, octets[:-1][np.diff(octets) <= _LONGEST_OCTET]),
    ]


def _ends(digit: Flags, first: Places) -> Places:
    """Return where the runs of up to three digits end that begin at some places."""
    two = digit[first + 1]
    found: Places = first + 1 + two + (two & digit[first + 2])
    return found


def _hexadecimal_runs(codes: Codes, digit: Flags) -> Places:
    """Return about where twelve hexadecimal digits follow one another, or eight after an x.

    Twelve in a row hold two whole quarters of eight bytes and two more on one side; eight hold one.
    """
    is_hexadecimal = digit | ((codes - np.uint8(97)) < 6)
    fours = is_hexadecimal.view(np.uint32) == _FOUR_TRUE
    four = np.flatnonzero(fours)
    eight = 4 * four[fours[four + 1]]
    before = is_hexadecimal[eight - 1] & is_hexadecimal[eight - 2]
    after = is_hexadecimal[eight + 8] & is_hexadecimal[eight + 9]
    pointed = 4 * four[(codes.view(np.uint32)[four - 1, None].view(np.uint8) == 120).any(axis=1)]
    return np.concatenate((eight[before | after], pointed))


def _path_like(codes: Codes) -> Places:
    """Return the slashes that a path with folders may begin with."""
    places = np.flatnonzero((codes == 47) | (codes == 92))
    slashes, backslashes = places[codes[places] == 47], places[codes[places] == 92]
    slashes = slashes[:-1][np.diff(slashes) > 1]
    slashes = slashes[_IN_NAME[codes[slashes + 1]] & _BEFORE_PATH[codes[slashes - 1]]]
    return np.concatenate((slashes, backslashes[codes[backslashes - 1] == 58]))
