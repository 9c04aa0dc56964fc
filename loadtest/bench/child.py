"""How a contender tells the race what it measured: one JSON line on standard output, at its last record."""

import json
import sys
import time


class Progress:
    """Counts records. The first tenth is not counted, so that caches, compilers and pools are warm for everyone."""

    def __init__(self, events: int):
        self.events = events
        self.seen = 0
        self._began: tuple[int, float, float] | None = None
        self._said = False

    @property
    def done(self) -> bool:
        return self.seen >= self.events

    def add(self, records: int) -> bool:
        """Whether these were the last ones that count; then the result has been printed."""
        self.seen += records
        if self._began is None:
            if self.seen >= max(self.events // 10, 1):
                self._began = self.seen, time.monotonic(), time.process_time()
        elif self.done and not self._said:
            self._say()
        return self.done

    def _say(self) -> None:
        seen, wall, cpu = self._began
        result = {
            "events": self.seen - seen,
            "wall_seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        self._said = True
        # Faust puts a logger in the place of sys.stdout.
        print(json.dumps(result), file=sys.__stdout__, flush=True)
