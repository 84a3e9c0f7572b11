"""What happens to jobs, reported to listeners and to EventBridge; and the traces they belong to."""
