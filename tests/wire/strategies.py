"""Values for property tests of the wire: the whole range that protobuf allows, with its edges more often."""

from __future__ import annotations

from hypothesis import strategies as st

EXAMPLES = 100

u64 = st.one_of(st.sampled_from([0, 1, 1001, 2**63 - 1, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))
int32 = st.one_of(
    st.sampled_from([0, 1, 3, 4, 127, 128, 16384, -1, 2**31 - 1, -(2**31)]), st.integers(-(2**31), 2**31 - 1)
)
client_msg_id = st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20))
content = st.one_of(st.text(max_size=30), st.sampled_from([0, 1, 63, 64, 8191, 8192]).map("é".__mul__))
msg = st.text(max_size=20)


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with a few bytes changed, cut or added."""
    frame = bytearray(draw(frames))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(frame)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if kind == "change" and at < len(frame):
            frame[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del frame[at : at + draw(st.integers(1, 10))]
        elif kind == "insert":
            frame[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "end":
            del frame[at:]
    return bytes(frame)
