"""What a user writes: job classes and functions, their payloads, and the registry that knows them."""
