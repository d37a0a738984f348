"""A study's tables as aligned Markdown, for terminals and files."""

from collections.abc import Sequence

from dicm_jax.report.figures import NONE, figure, interval, signed, spread
from dicm_jax.studies.results import Results


def text_report(results: Results) -> str:
    """The table of all variants, the comparisons, and what failed or has not been run."""
    parts = [f"# {results.study.title}", _variants(results)]
    if results.oracle is not None:
        parts.append(f"True click probabilities: GAUC {figure(results.oracle)}.")
    if results.study.comparisons:
        parts.append(_comparisons(results))
    if results.failed:
        failed = (f"- {name}: {message}" for name, message in results.failed.items())
        parts.append("Failed cells:\n" + "\n".join(failed))
    if results.open_cells:
        parts.append("Not run yet: " + ", ".join(results.open_cells))
    return "\n\n".join(parts) + "\n"


def _variants(results: Results) -> str:
    reference = results.study.reference
    rows = []
    for variant, finding in results.findings.items():
        gauc, auc, loss = (finding.summary(name) for name in ("gauc", "auc", "logloss"))
        difference = results.difference(variant, reference)
        is_reference = variant == reference
        rows.append(
            (
                variant,
                f"{gauc.n} of {len(results.study.seeds)}",
                f"{figure(gauc.mean)} {spread(gauc.std)}".strip(),
                f"{figure(auc.mean)} {spread(auc.std)}".strip(),
                f"{figure(loss.mean)} {spread(loss.std)}".strip(),
                NONE if is_reference else signed(difference.mean),
                NONE if is_reference else interval(difference.low, difference.high) or NONE,
            )
        )
    head = ("variant", "seeds", "GAUC", "AUC", "log loss", f"GAUC - {reference}", "95 % interval")
    return aligned([head, *rows])


def _comparisons(results: Results) -> str:
    rows = [
        (
            "paired difference in GAUC",
            "mean",
            "spread",
            "95 % interval",
            "seeds above 0",
            "above 0?",
        )
    ]
    for comparison in results.study.comparisons:
        difference = results.difference(comparison.variant, comparison.reference)
        above = sum(value > 0 for value in difference.by_seed.values())
        rows.append(
            (
                f"{comparison.variant} - {comparison.reference}",
                signed(difference.mean),
                spread(difference.std) or NONE,
                interval(difference.low, difference.high) or NONE,
                f"{above} of {len(difference.by_seed)}",
                difference.verdict,
            )
        )
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table with columns of even width; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
