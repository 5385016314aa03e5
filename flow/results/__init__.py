"""What a run tells: accuracy, counters, latency, reports and plots."""
