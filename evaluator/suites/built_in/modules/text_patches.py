"""Changes of a text: the difference of two versions as a patch, its application, and a history.

A patch says that from a line on (counted from 0) some lines are replaced by others; it holds the
lines that differ and nothing of what both versions have in common at their beginning and end. It
fits where its old lines stand. The history holds all versions of a document and takes patches.
"""

from dataclasses import dataclass

SEARCH = True
APPEND = True

Lines = list[str]


class Conflict(Exception):
    """A patch does not fit."""


@dataclass(frozen=True)
class Patch:
    """Lines that take the place of others."""

    start: int
    old: Lines
    new: Lines

    def inverse(self) -> "Patch":
        """The patch that undoes this one."""
        return Patch(self.start, self.new, self.old)


def diff(before: Lines, after: Lines) -> Patch:
    """The patch from one version to another."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    room = min(len(before), len(after)) - start
    while end < room and before[len(before) - 1 - end] == after[len(after) - 1 - end]:
        end += 1
    return Patch(start, before[start : len(before) - end], after[start : len(after) - end])


def place_of(patch: Patch, lines: Lines) -> int:
    """Where the patch fits."""
    size = len(patch.old)
    if patch.start <= len(lines) and lines[patch.start : patch.start + size] == patch.old:
        return patch.start
    if SEARCH and size:
        for place in range(len(lines) - size + 1):
            if lines[place : place + size] == patch.old:
                return place
    raise Conflict(patch.start)


def apply(patch: Patch, lines: Lines) -> Lines:
    """The lines with the patch in its place."""
    place = place_of(patch, lines)
    return [*lines[:place], *patch.new, *lines[place + len(patch.old) :]]


class History:
    """The versions of a document; the last one is current."""

    def __init__(self, lines: Lines) -> None:
        self.versions = [lines]

    def commit(self, lines: Lines, base: int) -> int:
        """Takes a text edited from version `base`, with what came since; returns its number."""
        patch = diff(self.versions[base], lines)
        self.versions.append(apply(patch, self.versions[-1]))
        return len(self.versions) - 1

    def revert(self, number: int) -> None:
        """Undoes the change that led to a version (not the first), and nothing else."""
        patch = diff(self.versions[number - 1], self.versions[number]).inverse()
        lines = apply(patch, self.versions[-1])
        if APPEND:
            self.versions.append(lines)
        else:
            self.versions = [*self.versions[:-1], lines]
