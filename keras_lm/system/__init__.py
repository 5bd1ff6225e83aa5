"""What the operating system gives: memory, cores, signals, a terminal. Imports nothing of ours."""
