"""What an operator asks: list, show, cancel, redrive, forget, and health."""
