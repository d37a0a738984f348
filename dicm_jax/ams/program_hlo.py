"""Reads HLO, the text of compiled programs, for its collectives.

Backends differ in spelling: an all-to-all is a tuple of parts on CPU and one array elsewhere;
asynchronous ones are a ``-start`` and a ``-done``, or an ``async-start`` that calls a computation;
groups of devices are listed, or cut from an iota, or named by axes of a mesh.
"""

import dataclasses
import math
import re

from dicm_jax.ams.program import (
    LEAVING,
    UNCOUNTED,
    Call,
    Collective,
    Computations,
    Operand,
    ProgramError,
    uncounted,
)

LOOSE = ""
"""Name of the computation that lines outside of any belong to."""

_KINDS = "|".join((*UNCOUNTED, *LEAVING))
_OPENING = re.compile(r"^\s*(?P<entry>ENTRY )?\s*%?(?P<name>[\w.\-]+)(?: \(.*)? \{\s*$")
_CLOSING = re.compile(r"^\s*\}(?:, execution_thread=.*)?\s*$")
_NAME = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = ")
_OPCODE = re.compile(r"\s*(?P<opcode>[\w\-]+)\(")
_COLLECTIVE = re.compile(rf"(?P<kind>{_KINDS})(?:-start)?")
_UNREAD = re.compile(rf"^[^\"]* (?:{_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"(?P<dtype>[a-z]\w*)\[(?P<dims>[\d,<=]*)\]")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(
    r"\b(?P<role>calls|to_apply|body|condition|true_computation|false_computation"
    r"|branch_computations|called_computations)=(?:%?(?P<one>[\w.\-]+)|\{(?P<many>[^}]*)\})"
)
_OP_NAME = re.compile(r'\bop_name="(?P<op_name>(?:[^"\\]|\\.)*)"')
_LISTED = re.compile(r"\breplica_groups=\{(?P<groups>(?:\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"\breplica_groups=\[\d+,(?P<size>\d+)\]<=")
_MESH = re.compile(r"\breplica_groups=mesh\[(?P<mesh>[^\]]*)\][^{]*\{(?P<axes>[^}]*)\}")
_AXIS_SIZE = re.compile(r"'(?P<axis>[^']+)'=(?P<size>\d+)")
_AXIS = re.compile(r"'(?P<axis>[^']+)'(?::\(\d+\)(?P<part>\d+))?")
_MODULE_DEVICES = re.compile(r"\b(?:replica_count|num_partitions)=(\d+)")


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """One line: ``name = shape opcode(operands), attributes``; `rest` begins at the operands."""

    name: str
    shape: str
    opcode: str
    rest: str


def computations(text: str) -> tuple[Computations, str]:
    """What each computation of a module holds, and the name of the one that runs first.

    Raises:
      ProgramError: a module without entry, or a collective that cannot be read.
    """
    found: dict[str, list[Collective | Call]] = {LOOSE: []}
    entry = current = LOOSE
    shapes: dict[str, str] = {}
    devices = math.prod(map(int, _MODULE_DEVICES.findall(text.split("\n", 1)[0])))
    for line in text.splitlines():
        if _CLOSING.match(line):
            current, shapes = LOOSE, {}
        elif opening := _OPENING.match(line):
            current, shapes = opening["name"], {}
            found[current] = []
            entry = current if opening["entry"] else entry
        elif instruction := _instruction(line):
            shapes[instruction.name] = instruction.shape
            found[current] += _held(instruction, shapes, devices)
    if len(found) > 1 and entry == LOOSE:
        raise ProgramError(
            f"the program has computations ({', '.join(sorted(found)[1:4])}, ...) but no ENTRY:"
            " give the whole text of a module"
        )
    return found, entry


def _instruction(line: str) -> _Instruction | None:
    head = _NAME.match(line)
    if head is None:
        return None
    start = head.end()
    end = _balanced(line, start) if line.startswith("(", start) else line.find(" ", start)
    opcode = _OPCODE.match(line, end) if end > 0 else None
    if opcode is None:
        if _UNREAD.match(line):
            raise _unreadable(line)
        return None
    return _Instruction(head["name"], line[start:end], opcode["opcode"], line[opcode.end() - 1 :])


def _held(
    instruction: _Instruction, shapes: dict[str, str], devices: int
) -> list[Collective | Call]:
    """The collective that an instruction is, or the computations that it runs."""
    if match := _COLLECTIVE.fullmatch(instruction.opcode):
        if match["kind"] in UNCOUNTED:
            raise uncounted(match["kind"])
        op_name = _OP_NAME.search(instruction.rest)
        return [
            Collective(
                match["kind"],
                _operands(instruction, shapes),
                _group_size(instruction, match["kind"], devices),
                op_name=op_name["op_name"] if op_name else "",
            )
        ]
    if instruction.opcode.endswith(("-done", "-update")):
        return []  # they name the computation that their start runs
    return [
        Call(name.strip().lstrip("%"), called["role"] in ("body", "condition"))
        for called in _CALLED.finditer(instruction.rest)
        for name in (called["one"] or called["many"]).split(",")
        if name.strip()
    ]


def _operands(instruction: _Instruction, shapes: dict[str, str]) -> tuple[Operand, ...]:
    inside = instruction.rest[1 : _balanced(instruction.rest, 0) - 1]
    if not _SHAPE.search(inside):
        names = [name.strip().lstrip("%") for name in _COMMENT.sub("", inside).split(",")]
        missing = [name for name in names if name not in shapes]
        if missing:
            raise ProgramError(
                f"{instruction.name} takes {missing[0]!r}, whose shape does not stand in its"
                " computation: give the whole text of a module"
            )
        inside = " ".join(shapes[name] for name in names)
    return tuple(
        Operand(shape["dtype"], tuple(int(d) for d in re.findall(r"\d+", shape["dims"])))
        for shape in _SHAPE.finditer(inside)
        if shape["dtype"] != "token"
    )


def _group_size(instruction: _Instruction, kind: str, devices: int) -> int:
    """Devices in the largest group."""
    if kind == "collective-permute":
        return 2
    if match := _LISTED.search(instruction.rest):
        groups = re.findall(r"\{([\d,]+)\}", match["groups"])
        return max((len(group.split(",")) for group in groups), default=devices)
    if match := _IOTA.search(instruction.rest):
        return int(match["size"])
    if match := _MESH.search(instruction.rest):
        sizes = {axis["axis"]: int(axis["size"]) for axis in _AXIS_SIZE.finditer(match["mesh"])}
        axes = _AXIS.finditer(match["axes"])
        return math.prod(int(axis["part"] or sizes[axis["axis"]]) for axis in axes)
    raise _unreadable(f"{instruction.name} = {instruction.opcode}{instruction.rest}")


def _balanced(text: str, start: int) -> int:
    """One past the parenthesis that closes the one at `start`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.end()
    raise _unreadable(text)


def _unreadable(line: str) -> ProgramError:
    return ProgramError(
        f"cannot read this instruction of the program: {line.strip()[:200]!r}; give text as"
        " compiled.as_text() prints it"
    )
