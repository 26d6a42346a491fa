"""What speaks a protocol to the outside: WebSocket and HTTP. Thin."""
