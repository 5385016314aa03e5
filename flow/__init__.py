"""What happens, in order: import, passes, compiler, simulators, evaluation and report."""
