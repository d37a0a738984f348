"""A preparation as two Apache Beam pipelines, for logs larger than a machine: the same set.

    scan       each fragment of each table: its values, shared out by hash; joined share by share
    (here)     the plan is made of all shares and written for the workers
    groups     map, by_item, by_user and write as in `local`, with a shuffle between each and the
               next; every bucket becomes a shard

Workers and the main program share a file system: tables, shards and the plan lie in files, only
rows on their way from stage to stage travel through Beam. A pipeline that came to its end is not
run again after a stop; one that did not is, but for the shards it has written.
"""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from dicm_jax import sealed_json
from dicm_jax.data.prepared.assembly import check_free
from dicm_jax.data.prepared.manifest import Prepared
from dicm_jax.errors import ConfigError, DataError
from dicm_jax.preparation import plan_files, scan_files
from dicm_jax.preparation.catalogue import read_items
from dicm_jax.preparation.config import PrepareConfig
from dicm_jax.preparation.output import Written, finished, written_bucket
from dicm_jax.preparation.plan import Plan, make_plan
from dicm_jax.preparation.scan import Scan, joined
from dicm_jax.preparation.sources import fragments
from dicm_jax.preparation.tables import Fragment
from dicm_jax.preparation.unfinished import WORK, alone, begun, publish, to_disk
from dicm_jax.preparation.workplace import Workplace

_FORMAT, _VERSION = "dicm_jax preparation scan", 1
_MOST_SHARES = 256


def prepare(config: PrepareConfig, folder: Path, beam_options: Sequence[str]) -> Prepared:
    """Makes the prepared set of some log tables; to the byte what `local.prepare` makes.

    Args:
      config: the settings.
      folder: of the set; must not exist, or be empty.
      beam_options: command-line options of Beam; without ``--runner`` this process runs it all.

    Raises:
      ConfigError: Apache Beam is not installed, refuses an option, or fails for itself.
      DataError: anything that is wrong with the tables; another preparation stands unfinished in
        the folder's place; the disk is full; the workers write elsewhere.
    """
    pipelines = _pipelines()
    options = pipelines.options_of(beam_options)
    check_free(folder)
    with to_disk(folder):
        pieces = [_for_all_machines(piece) for piece in fragments(config)]
        unfinished, now = begun(config, folder)
        with alone(unfinished):
            place = Workplace(folder, unfinished.absolute() / WORK, min(len(pieces), _MOST_SHARES))
            items = read_items(config)
            if not place.scanned.exists():
                _say(f"scan of {len(pieces)} fragments")
                pipelines.scan_tables(options, config, place, pieces)
                _record_scan(place)
            seen = _seen(config, place)
            plan = make_plan(config, seen, items, now)
            if not place.done.exists():
                _say(f"groups of {plan.partitions} partitions in {plan.buckets} buckets")
                plan_files.save(plan, place.plan)
                pipelines.make_groups(options, config, place, pieces)
            counts, written = _made(plan, place)
            prepared = finished(plan, items, seen, written, counts, unfinished)
            publish(unfinished, folder)
    return prepared


def _pipelines() -> ModuleType:
    """The module that needs Apache Beam, which not every installation has."""
    try:
        return importlib.import_module("dicm_jax.preparation.beam_pipelines")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "apache_beam":
            raise
        raise ConfigError(
            "--runner=beam needs Apache Beam, which is not installed; install it with"
            " pip install 'dicm-jax[beam]', or leave out --runner to prepare on this machine"
        ) from None


def _for_all_machines(piece: Fragment) -> Fragment:
    """The fragment under a path that holds wherever a worker was started."""
    return dataclasses.replace(piece, path=str(Path(piece.path).absolute()))


def _record_scan(place: Workplace) -> None:
    for number in range(place.shares):
        _check_shared(place.share(number))
    body = {"format": _FORMAT, "version": _VERSION, "shares": place.shares}
    sealed_json.save(place.scanned, body)


def _seen(config: PrepareConfig, place: Workplace) -> Scan:
    """What all fragments hold, of the shares that the workers wrote."""
    return joined(config, [scan_files.load(place.share(number)) for number in range(place.shares)])


def _made(plan: Plan, place: Workplace) -> tuple[dict[str, int], list[Written | None]]:
    """What the workers counted, and the shards that they wrote."""
    _check_shared(place.done)
    buckets, counts = place.read_done()
    written = [written_bucket(bucket, place.written) for bucket in range(plan.buckets)]
    if any(written[bucket] is None for bucket in buckets):
        raise _elsewhere(place.written)
    return counts, written


def _check_shared(path: Path) -> None:
    if not path.exists():
        raise _elsewhere(path)


def _elsewhere(path: Path) -> DataError:
    return DataError(
        f"{path}: a worker wrote it, but it is not here; workers and this machine must see the same"
        " files under the same paths: give --output a folder of a shared file system"
    )


def _say(what: str) -> None:
    print(f"beam: {what}", file=sys.stderr)
