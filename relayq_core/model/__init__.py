"""What a job is and where it goes: pure, with the time as an argument."""
