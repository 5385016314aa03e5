"""One file for each operator of the integer graph, and the table that the rest reads."""
