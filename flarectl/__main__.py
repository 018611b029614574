"""``python -m flarectl``, and the flarectl command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    if sys.argv[1:] == ["--version"]:  # not worth loading anything for
        from flared import __version__

        print(f"flarectl {__version__}")
        return
    from flarectl.start import run

    run()


if __name__ == "__main__":
    main()
