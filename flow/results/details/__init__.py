"""What a report knows of the deployed variant beyond numbers: graph, memory, histograms, images."""
