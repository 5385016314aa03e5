"""The contract between compiler and simulators: a program, its file, and how data lie in DRAM."""
