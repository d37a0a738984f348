"""Which collectives a program holds, and how many bytes they take out of a device.

    step.lower(...).compile().as_text()        what runs: fused, combined, as the backend has it
    step.lower(...).as_text(debug_info=True)   what was asked for: dtypes before XLA:CPU widens them

Each counts once for every place that it is called from; in a loop, once, with ``loop`` set: only
who knows the rounds can multiply. The optimizer may merge collectives of several scopes into one,
which then carries some of their names, or none (on GPU): sum by kind what is not in a scope.
"""

from dicm_jax.ams import program_hlo, program_stablehlo
from dicm_jax.ams.program import Collective, Operand, ProgramError, as_run

__all__ = ["Collective", "Operand", "ProgramError", "collectives"]


def collectives(text: str) -> list[Collective]:
    """The collectives of a program, in the order of its text.

    Args:
      text: HLO (compiled) or StableHLO (lowered) of a whole module, or loose lines of one.

    Raises:
      ProgramError: the text is of neither kind or not whole, or its traffic cannot be counted.

    Example::

      found = collectives(step.lower(state, batch).compile().as_text())
      pulled = sum(one.bytes_leaving for one in found if one.within("pull_ids"))
    """
    if "stablehlo." in text and "HloModule " not in text:
        return as_run(*program_stablehlo.computations(text))
    if " = " in text:
        return as_run(*program_hlo.computations(text))
    raise ProgramError(
        f"asked for the collectives of a text that is neither HLO nor StableHLO: {text[:80]!r};"
        " give compiled.as_text() or lowered.as_text()"
    )
