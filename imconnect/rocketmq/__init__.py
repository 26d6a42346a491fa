"""A Twisted client of RocketMQ's remoting protocol. It knows nothing of the rest of imconnect.

docs/rocketmq-client.md tells how to use it.
"""

from imconnect.rocketmq.admin import Admin
from imconnect.rocketmq.client import Client
from imconnect.rocketmq.codes import Outcome
from imconnect.rocketmq.connection import Credentials
from imconnect.rocketmq.consumer import GroupConsumer
from imconnect.rocketmq.errors import RocketMQError, TopicMissing
from imconnect.rocketmq.lane import Settings
from imconnect.rocketmq.messages import Message, StoredMessage
from imconnect.rocketmq.producer import Producer, Receipt
from imconnect.rocketmq.routes import Queue, Route

__all__ = [
    "Admin",
    "Client",
    "Credentials",
    "GroupConsumer",
    "Message",
    "Outcome",
    "Producer",
    "Queue",
    "Receipt",
    "RocketMQError",
    "Route",
    "Settings",
    "StoredMessage",
    "TopicMissing",
]
