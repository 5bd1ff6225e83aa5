"""`python -m keras_lm`: the command line."""

import signal
import sys

if __name__ == "__main__":
    # What is imported next takes a moment, in which a Ctrl-C just ends the process.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from keras_lm.cli import main

    sys.exit(main())
