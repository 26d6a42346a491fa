"""The rules of a node: decide, commit, act. Knows no sockets, threads, queues or clocks of its own."""
