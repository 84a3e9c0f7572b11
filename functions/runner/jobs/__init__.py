"""Your jobs: every module in this package is imported when the runner starts. Add a file, and nothing else."""
