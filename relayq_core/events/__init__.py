"""Who hears what became of a job: listeners, EventBridge, traces."""
