"""Death on purpose, for the fault harness: TENFOLD_FAULT=checkpoint:STEP or checkpoint:STEP:NTH.

The process kills itself (SIGKILL, nothing is cleaned up) when it comes to that step of a checkpoint for the NTH
time, by default the first. Without the variable ``point`` does nothing. Called by streams.state.store only.

Steps, in order: ``taken`` state copied, nothing written; ``block`` one block handed to the producer; ``blocks`` all
of them stored; ``marker`` the marker handed to the producer; ``done`` the marker stored, nothing else done.
"""

import os
import signal

STEPS = ("taken", "block", "blocks", "marker", "done")

_wanted = ""
_left = 0


def arm(setting: str) -> None:
    """Take the variable's value; "" for never. Raises ValueError for anything that it cannot mean."""
    global _wanted, _left
    _wanted, _left = "", 0
    if not setting:
        return
    what, step, *nth = setting.split(":")
    if what != "checkpoint" or step not in STEPS or len(nth) > 1:
        raise ValueError(f"TENFOLD_FAULT={setting!r} is not checkpoint:STEP[:NTH] with a STEP of {', '.join(STEPS)}")
    _wanted, _left = step, int(nth[0]) if nth else 1


def point(step: str) -> None:
    """A checkpoint has come to ``step``."""
    global _left
    if step == _wanted:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("TENFOLD_FAULT", ""))
