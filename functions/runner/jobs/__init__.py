"""Your jobs: the runner imports every module of this package when it starts. Add a file, and nothing else."""
