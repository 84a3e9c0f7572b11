"""Work: a worker for containers and laptops, which polls for jobs instead of being told of them."""
