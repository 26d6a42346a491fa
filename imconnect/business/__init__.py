"""The rules of the consumer: one batch of events applied to the store."""
