"""The whole house in one process and in fake time: nodes, queue, business, people, and everything that goes wrong.

`schedule.py` is the place to begin: what happens. `world.py` says to whom, `faults.py` how badly, `judge.py` and
`record.py` what must never be seen, `model.py` what the database must say, `bugs.py` that they would notice.
"""
