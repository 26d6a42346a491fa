"""imconnect: an instant-messaging connection gateway. WebSocket clients in front, RocketMQ behind."""

__version__ = "0.1.0"
