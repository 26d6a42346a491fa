"""What the gateway tells the business side."""
