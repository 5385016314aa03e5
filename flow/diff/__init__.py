"""What changed between two reports: of two runs, machines, versions, or variants of one."""
