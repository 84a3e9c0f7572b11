"""What belongs to one Python process: its event loop, time limits, forks, threads, loggers and installed extras."""
