"""What the operating system gives: memory, cores, signals, a terminal; of keras_lm nothing."""
