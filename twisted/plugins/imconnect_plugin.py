"""What `twistd` may run. Nothing of imconnect is imported here: listing plugins stays cheap."""

from twisted.application.service import ServiceMaker

gateway = ServiceMaker("imconnect", "imconnect.tap", "The instant-messaging gateway.", "imconnect")

business = ServiceMaker(
    "imbusiness", "imconnect.tap.imbusiness", "The reference consumer of the gateway's events.", "imbusiness"
)
