"""Count the calls of Python functions in a worker, without its cooperation."""

import mmap
import struct
from pathlib import Path

HOOK = """
import mmap, sys, threading

with open({file!r}, "r+b") as file:
    calls = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")


def count(frame, event, argument):
    if event == "call":
        calls[0] += 1


threading.setprofile(count)
sys.setprofile(count)
"""
"""The worker's `sitecustomize`, which Python imports before anything else."""


class Calls:
    """The counter is in a file that the worker has mapped, so reading it does not disturb it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        file = folder / "calls"
        file.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(HOOK.format(file=str(file)))
        self.environment = {"PYTHONPATH": str(folder)}
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 8)

    def so_far(self) -> int:
        """Return the number of calls since the worker started."""
        return int(struct.unpack("Q", self._map[:8])[0])
