"""What is asked of the operating system: files, processes, memory, threads; and its limits."""
