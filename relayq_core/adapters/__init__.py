"""Adapters: where the core meets AWS. boto3 is imported here and in client.py, nowhere else."""
