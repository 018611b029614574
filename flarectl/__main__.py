"""``python -m flarectl``, and the flarectl command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    # The app itself handles errors once it runs. These happen while it loads, or when a help page cannot be written.
    # The codes are those of errors.ExitCode, written out because loading that module would take too long here.
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
    """Keep the interpreter from reporting a second time, at its end, that standard output cannot be written."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
