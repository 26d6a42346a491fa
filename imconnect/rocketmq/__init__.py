"""A Twisted client of RocketMQ's remoting protocol. It knows nothing of the rest of imconnect.

Start with `client.Client`; docs/rocketmq-client.md has an example.
"""
