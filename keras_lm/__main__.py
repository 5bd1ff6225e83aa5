"""`python -m keras_lm`, and the command `keras-lm` of an installed package."""

import signal
import sys


def main() -> int:
    """Runs the command line; returns the process's exit code."""
    # What is imported next takes a moment, in which a Ctrl-C just ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from keras_lm import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
