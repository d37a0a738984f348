"""What a run tells the world while it goes on: ``metrics.jsonl`` and TensorBoard event files."""

import json
import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from dicm_jax.errors import DataError
from dicm_jax.whole_files import write_text


@runtime_checkable
class Log(Protocol):
    """Where a run's events go."""

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record `values` of `step`."""
        ...


class Events:
    """Writer of a run's events.

    Args:
      folder: of the run.
      resumed_at: step that the run goes on from; later lines of an earlier try are taken out of
        ``metrics.jsonl``, since they will be written again.

    Raises:
      DataError: ``metrics.jsonl`` holds something else than lines of a run.
    """

    def __init__(self, folder: Path, resumed_at: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step(line, path) <= resumed_at]
        write_text(path, "".join(line + "\n" for line in kept))  # a kill here loses no line
        self._file = path.open("a")
        self._tensorboard = EventFileWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record `values` of `step`; numbers go to TensorBoard too, under ``kind/name``."""
        print(json.dumps({"kind": kind, "step": step} | jsonable(values)), file=self._file)
        self._file.flush()
        numbers = {name: float(x) for name, x in values.items() if isinstance(x, int | float)}
        summary = summary_pb2.Summary(  # pyright: ignore[reportAttributeAccessIssue]
            value=[
                summary_pb2.Summary.Value(  # pyright: ignore[reportAttributeAccessIssue]
                    tag=f"{kind}/{name}", simple_value=value
                )
                for name, value in numbers.items()
            ]
        )
        event = event_pb2.Event(  # pyright: ignore[reportAttributeAccessIssue]
            step=step, summary=summary
        )
        self._tensorboard.add_event(event)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self._tensorboard.close()


class NoEvents:
    """Takes events and tells nobody: for all processes of a run but the first."""

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Nothing."""

    def __enter__(self) -> "NoEvents":
        return self

    def __exit__(self, *_) -> None:
        pass


def jsonable(values: dict[str, Any]) -> dict[str, Any]:
    """NaN as null: strict JSON has no NaN."""
    return {
        name: None if isinstance(x, float) and math.isnan(x) else x for name, x in values.items()
    }


def _lines(path: Path) -> list[str]:
    """Complete lines of a file; a line cut short by a kill is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def _step(line: str, path: Path) -> int:
    try:
        return json.loads(line)["step"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} has a line that no run writes, {line[:60]!r}: take it out, or move the file"
            " away, then run the same command again"
        ) from error
