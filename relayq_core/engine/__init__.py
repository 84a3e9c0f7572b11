"""What moves a job: dispatch, run, settle, sweep."""
