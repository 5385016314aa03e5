"""What VTA runs and what the host runs, and why."""
