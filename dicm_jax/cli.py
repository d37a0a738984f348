"""How command lines of the project end: one message for the user, and an exit code."""

import sys
from collections.abc import Callable

from dicm_jax.errors import DicmError

DONE, FAILED, PREEMPTED = 0, 1, 75


def run_command(command: Callable[[], int], *, debug: bool) -> int:
    """Run `command` and turn its errors into a message on stderr and an exit code.

    Args:
      command: returns an exit code.
      debug: let errors through, with their traceback.
    """
    if debug:
        return command()
    try:
        return command()
    except DicmError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        return FAILED
