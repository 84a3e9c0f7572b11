"""What is asked of one Python process: event loop, time limits, forks, threads, loggers."""
