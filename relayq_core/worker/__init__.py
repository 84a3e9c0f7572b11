"""The worker for containers and laptops, which polls for jobs instead of waiting to be invoked."""
