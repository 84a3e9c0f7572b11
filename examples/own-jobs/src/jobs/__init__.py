"""The jobs of this repository: every module in this package is imported when the runner starts."""
