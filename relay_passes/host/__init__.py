"""What the host runs, and how."""
