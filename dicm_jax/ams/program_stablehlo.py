"""Reads StableHLO, the text of lowered programs, for its collectives.

What is lowered is what was asked for: XLA:CPU widens collectives of bfloat16 when it compiles, so
their bytes on the wires of other backends are read here. Names of scopes stand in the text of
``lowered.as_text(debug_info=True)`` only.
"""

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
"""Name of the function that operations outside of any belong to."""

_KINDS = "|".join(kind.replace("-", "_") for kind in (*UNCOUNTED, *LEAVING))
_SYMBOL = r'@(?:"[^"\n]*"|[\w.$\-]+)'
_TOKEN = re.compile(
    rf'"?stablehlo\.(?P<kind>{_KINDS})"?\(|custom_call @(?P<custom>ragged_all_to_all)\('
    r'|"(?:[^"\\\n]|\\.)*"'  # braces in strings do not nest
    rf"|func\.func (?:public |private )?(?P<function>{_SYMBOL})"
    rf"|\bcall (?P<callee>{_SYMBOL})"
    r"|(?P<loop>\b(?:cond|do) \{)|(?P<open>\{)|(?P<close>\})"
)
_TYPES = re.compile(r":\s*\((?P<types>tensor<[^()]*)\)\s*->")
_TENSOR = re.compile(r"tensor<(?P<dims>(?:\d+x)*)(?P<dtype>[a-z]\w*)>")
_LISTED = re.compile(r"replica_groups = dense<[^>]*> : tensor<\d+x(?P<size>\d+)xi64>")
_MESH = re.compile(
    r"replica_group_mesh_axes<mesh(?:_name)? = (?P<mesh>@[\w.$\-]+|#stablehlo\.mesh<.*?\]>),"
    r" axes = \[(?P<axes>[^\]]*)\]"
)
_MESH_NAMED = re.compile(r"sdy\.mesh (?P<name>@[\w.$\-]+) = <\[(?P<axes>[^\]]*)\]")
_AXIS_SIZE = re.compile(r'"(?P<axis>[^"]+)"(?:=|, size = )(?P<size>\d+)')
_AXIS = re.compile(r'name = "(?P<axis>[^"]+)"(?:, sub_axis_info = \(\d+\)(?P<part>\d+))?')
_LOCATION = re.compile(r'\bloc\((?:(?P<alias>#loc\d*)\)|"(?P<name>(?:[^"\\]|\\.)*)"\()')
_ALIAS = re.compile(r'^(?P<alias>#loc\d*) = loc\("(?P<name>(?:[^"\\]|\\.)*)"\(', re.MULTILINE)


def computations(text: str) -> tuple[Computations, str]:
    """What each function of a module holds, and the name of the one that runs first.

    Raises:
      ProgramError: a module without a function ``main``, or a collective that cannot be read.
    """
    found: dict[str, list[Collective | Call]] = {LOOSE: []}
    names = {match["alias"]: match["name"] for match in _ALIAS.finditer(text)}
    meshes = {match["name"]: match["axes"] for match in _MESH_NAMED.finditer(text)}
    current, blocks = LOOSE, list[bool]()  # for each open brace, whether it opens a loop's block
    for token in _TOKEN.finditer(text):
        if token["function"]:
            current = _symbol(token["function"])
            found[current] = []
        elif token["kind"] or token["custom"]:
            found[current].append(_collective(text, token, any(blocks), meshes, names))
        elif token["callee"]:
            line_end = text.find("\n", token.end())
            scope = _scope(text[token.end() : line_end if line_end > 0 else None], names)
            found[current].append(Call(_symbol(token["callee"]), any(blocks), scope))
        elif token["loop"] or token["open"]:
            blocks.append(bool(token["loop"]))
        elif token["close"]:
            blocks.pop()
    if len(found) > 1 and "main" not in found:
        raise ProgramError(
            f"the program has functions ({', '.join(sorted(found)[1:4])}, ...) but no main: give"
            " the whole text of a module"
        )
    return found, "main" if len(found) > 1 else LOOSE


def _collective(
    text: str, token: re.Match[str], loop: bool, meshes: dict[str, str], names: dict[str, str]
) -> Collective:
    kind = (token["kind"] or token["custom"]).replace("_", "-")
    if kind in UNCOUNTED:
        raise uncounted(kind)
    types = _TYPES.search(text, token.end())
    if types is None:
        raise _unreadable(text[token.start() :])
    operands = tuple(_operand(tensor) for tensor in _TENSOR.finditer(types["types"]))
    if len(operands) != types["types"].count("tensor<"):
        raise _unreadable(text[token.start() : types.end()])
    size = _group_size(text[token.start() : types.start()], kind, meshes)
    line_end = text.find("\n", types.end())
    scope = _scope(text[types.end() : line_end if line_end > 0 else None], names)
    return Collective(kind, operands, size, loop, scope)


def _operand(tensor: re.Match[str]) -> Operand:
    """An operand with its dtype as HLO spells it."""
    spelled = tensor["dtype"]
    if spelled == "i1":
        spelled = "pred"
    elif re.fullmatch(r"u?i\d+", spelled):
        spelled = spelled.replace("ui", "u").replace("i", "s")
    return Operand(spelled, tuple(int(dim) for dim in re.findall(r"\d+", tensor["dims"])))


def _group_size(operation: str, kind: str, meshes: dict[str, str]) -> int:
    if kind == "collective-permute":
        return 2
    if match := _LISTED.search(operation):
        return int(match["size"])
    match = _MESH.search(operation)
    if match is None or (match["mesh"].startswith("@") and match["mesh"] not in meshes):
        raise _unreadable(operation)
    mesh = meshes.get(match["mesh"], match["mesh"])
    sizes = {axis["axis"]: int(axis["size"]) for axis in _AXIS_SIZE.finditer(mesh)}
    axes = _AXIS.finditer(match["axes"])
    return math.prod(int(axis["part"] or sizes[axis["axis"]]) for axis in axes)


def _scope(line_end: str, names: dict[str, str]) -> str:
    """The name at the end of a line, of the operation that ends there."""
    locations = list(_LOCATION.finditer(line_end))
    if not locations:
        return ""
    return locations[-1]["name"] or names.get(locations[-1]["alias"], "")


def _symbol(spelled: str) -> str:
    return spelled.lstrip("@").strip('"')


def _unreadable(operation: str) -> ProgramError:
    return ProgramError(
        f"cannot read this operation of the program: {operation[:200]!r}; give text as"
        " lowered.as_text() prints it"
    )
