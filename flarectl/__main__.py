"""``python -m flarectl``, and the flarectl command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    # What the app does not see: while it is loaded, and when a help page cannot be written. The codes are those of
    # errors.ExitCode, which there is no time to load for this.
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print(f"flarectl: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        sys.exit(6)
    finally:
        _silence_output()


def _run() -> None:
    if sys.argv[1:] == ["--version"]:  # not worth loading anything for
        from flared import __version__

        print(f"flarectl {__version__}", flush=True)
        return
    from flarectl.start import run

    run()


def _silence_output() -> None:
    """What cannot be written must not make the interpreter complain once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
