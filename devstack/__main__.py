"""`python -m devstack run`."""

import sys
from pathlib import Path

from devstack.interrupt import listen


def main(arguments: list[str]) -> int:
    if arguments != ["run"]:
        print("usage: python -m devstack run", file=sys.stderr)
        return 2
    listen()
    from devstack.run import run  # slow, and a signal may come meanwhile

    return run(Path.cwd())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
