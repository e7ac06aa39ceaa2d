"""Faults that are planted into clean code: how they are written down, read, and put into modules.

A plant is one piece of code in two versions, clean and flawed, written as one text:

    @ KIND DOMAIN DIFFICULTY RULE
     a line of both versions
    -a line of the clean version only
    +a line of the flawed version only, which a reviewer must name
    ~a line of the flawed version only that is not where the fault is
    !a line of both, which a reviewer of the flawed version must name
    ? a line of the probe

RULE is the rule of ruff that sees the flawed version and not the clean one, `-` where there is
none. The probe is run after either version, in its module; it must leave a true `ok` behind with
the clean one, and a false one or an error with the flawed one.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_TOP = re.compile(r"(?:async )?(?:def|class) (\w+)|(\w+)(?:: [^=]+)? = ")
_IMPORT: Final = ("import ", "from ")
_HEADER: Final = "@ "


@dataclass(frozen=True)
class Kind:
    """A kind of fault, as prompts name it.

    Attributes:
        name: the slug that a finding should give.
        area: security, performance, maintainability or correctness.
        severity: low, medium, high or critical.
        cwe: number in the Common Weakness Enumeration, empty where none fits.
        aliases: what else a reviewer may call it.
    """

    name: str
    area: str
    severity: str
    cwe: str
    aliases: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Its other names, the number among them."""
        return [*([self.cwe] if self.cwe else []), *self.aliases]


@dataclass(frozen=True)
class Version:
    """One version of a plant: its imports, its body, and which body lines (from 0) are at fault."""

    kind: str
    imports: tuple[str, ...]
    body: tuple[str, ...]
    at_fault: tuple[int, ...]

    @property
    def names(self) -> set[str]:
        """The names that its body binds at the top."""
        found = (_TOP.match(line) for line in self.body)
        return {match[1] or match[2] for match in found if match}


@dataclass(frozen=True)
class Plant:
    """A piece of code with and without a fault.

    Attributes:
        kind: name of the kind of fault.
        domain: where such code lives.
        difficulty: easy, medium or hard to see.
        rule: ruff's rule that sees it, empty without one.
        clean: the version without fault.
        flawed: the version with it.
        probe: the program that tells both apart, empty where only the rule does.
    """

    kind: str
    domain: str
    difficulty: str
    rule: str
    clean: Version
    flawed: Version
    probe: str


@dataclass(frozen=True)
class Fault:
    """Where a fault stands in a module, lines from 1."""

    kind: str
    line: int
    last_line: int


@dataclass(frozen=True)
class Module:
    """A module of several pieces, with the faults in it."""

    code: str
    faults: tuple[Fault, ...]


def read_plants(text: str) -> list[Plant]:
    """Read plants in the notation of this module."""
    plants: list[Plant] = []
    header, lines = "", list[str]()
    for line in [*text.strip("\n").splitlines(), _HEADER]:
        if not line.startswith(_HEADER):
            lines.append(line or " ")
            continue
        if header:
            plants.append(_plant(header, lines))
        header, lines = line, []
    return plants


def compose(summary: str, pieces: Sequence[Version]) -> Module:
    """Return the module of some pieces, one after the other, their imports at its head."""
    imports = sorted({line for piece in pieces for line in piece.imports}, key=_import_order)
    lines = [f'"""{summary}"""', *([""] if imports else []), *imports]
    faults: list[Fault] = []
    for piece in pieces:
        lines += ["", ""]
        if piece.at_fault:
            before = len(lines) + 1
            places = before + min(piece.at_fault), before + max(piece.at_fault)
            faults.append(Fault(piece.kind, *places))
        lines += piece.body
    return Module("\n".join(lines) + "\n", tuple(faults))


def alone(version: Version) -> str:
    """Return one version as a module of its own."""
    return compose("A piece of code.", [version]).code


def fitting(pieces: Sequence[Plant], wanted: int, taken: set[str]) -> Iterator[Version]:
    """Yield up to `wanted` clean versions whose names do not collide with those taken."""
    taken = set(taken)
    for plant in pieces:
        if wanted <= 0:
            return
        if not plant.clean.names & taken:
            taken |= plant.clean.names
            wanted -= 1
            yield plant.clean


def _plant(header: str, lines: Sequence[str]) -> Plant:
    kind, domain, difficulty, rule = header.removeprefix(_HEADER).split()
    return Plant(
        kind,
        domain,
        difficulty,
        "" if rule == "-" else rule,
        _version(kind, lines, " -!", ""),
        _version(kind, lines, " +~!", "+!"),
        "".join(f"{line[2:]}\n" for line in lines if line.startswith("?")),
    )


def _version(kind: str, lines: Sequence[str], kept: str, faulty: str) -> Version:
    chosen = [(line[1:].rstrip(), line[0] in faulty) for line in lines if line[0] in kept]
    imports = tuple(text for text, _ in chosen if text.startswith(_IMPORT))
    body = [one for one in chosen if not one[0].startswith(_IMPORT)]
    while body and not body[0][0]:
        body.pop(0)
    return Version(
        kind,
        imports,
        tuple(text for text, _ in body),
        tuple(number for number, (text, at_fault) in enumerate(body) if at_fault and text),
    )


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line
