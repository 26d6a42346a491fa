"""How often each thing happens: names of methods of `Doings` and `NodeDoings`."""

from __future__ import annotations

#: In any world.
WEIGHTS = {
    "send": 26,
    "acknowledge": 14,
    "wait": 14,
    "sign_in": 9,
    "move": 4,
    "leave": 3,
    "repeat": 4,
    "send_and_repeat": 1,
    "withdraw": 4,
    "acknowledge_foreign": 1,
    "stop_reading": 1,
    "read_on": 2,
    "wait_long": 1,
    "crash": 2,
    "stop": 0.5,
    "crash_business": 1,
    "rebalance": 1,
    "hold_business": 2,
    "free_business": 3,
    "kill_queue": 1,
    "revive_queues": 2,
    "fill_disk": 1,
    "clear_disks": 3,
    "take_store_away": 0.5,
    "bring_store_back": 2,
    "skew": 0.5,
}
#: Where the nodes know of each other.
NODE_WEIGHTS = {
    **WEIGHTS,
    "repeat_elsewhere": 3,
    "sign_in_everywhere": 2,
    "cut_way": 2,
    "mend_ways": 3,
    "take_shared_away": 0.7,
    "bring_shared_back": 3,
}
