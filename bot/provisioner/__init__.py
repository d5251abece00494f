"""The only part with Docker and Pulumi: closes the difference between the wishes and the world."""
