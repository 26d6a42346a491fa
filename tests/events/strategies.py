"""Events for property tests: what handlers may let through, with the edges more often."""

from __future__ import annotations

from hypothesis import strategies as st

from imconnect.events.values import Acknowledged, Offlined, Sent, Withdrawn
from imconnect.model import MAX_ID, Message

EXAMPLES = 100

ids = st.one_of(st.sampled_from([1, 9, 10, MAX_ID]), st.integers(1, MAX_ID))
ids_or_none = st.one_of(st.just(0), ids)
times = st.integers(0, 2**41)
uuids = st.binary(min_size=16, max_size=16)
uuids_or_none = st.one_of(st.just(b""), uuids)
#: Texts, often with what JSON has to escape.
texts = st.one_of(st.text(max_size=30), st.text('"\\/\n\t\x00\x01\x7fa你😀', max_size=30))

messages = st.builds(
    Message,
    msg_id=ids,
    client_msg_id=uuids_or_none,
    sender=ids,
    receiver=ids,
    format=st.integers(-(2**31), 2**31 - 1),
    content=texts,
    time=st.integers(0, 2**64 - 1),
    created=times,
)
acknowledged = st.builds(
    Acknowledged, ids, uuids_or_none, ids_or_none, ids, st.sampled_from([3, 4]), times, st.booleans()
)
withdrawn = st.builds(Withdrawn, ids, uuids_or_none, ids, ids_or_none, times, st.booleans())
events = st.one_of(st.builds(Sent, messages), st.builds(Offlined, messages), acknowledged, withdrawn)
