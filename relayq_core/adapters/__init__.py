"""Adapters: where the core meets AWS. botocore is imported here and in client.py, nowhere else."""
