# make run | chat USER=1001 TO=1002 | test | lint | proto | docs | librocketmq | clean | ledger SEED=1 MINUTES=1 | crash-matrix | cluster

PYTHON = python3
URL = ws://127.0.0.1:10001/websocket
TESTS = tests
ARGS =
SEED = 1
MINUTES = 1
FORM = whole
ACK_AFTER = disk
# With options of its own the gateway may listen anywhere.
CHAT = $(if $(ARGS),URL=ws://HOST:PORT/websocket )
# The shell has a USER of its own, which is not meant.
WHO = $(if $(findstring command line,$(origin USER)),$(USER))

.DEFAULT_GOAL := help
.PHONY: help run chat test lint proto docs librocketmq clean rocketmq mariadb redis cluster test-cluster test-rocketmq-5.5 test-away ledger crash-matrix
MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
PACKAGING = setup.cfg pyproject.toml .ci/venv

help:
	@sed -n '1s/^# //p' Makefile

# One stamp per set of extras; a changed setup.cfg installs again.
.venv/.run: $(PACKAGING)
	@.ci/venv $(PYTHON)
	@echo "installing imconnect into .venv (once)"
	@.venv/bin/pip install --quiet -e .
	@touch $@

.venv/.test .venv/.dev .venv/.client-python: .venv/.%: .venv/.run
	@.venv/bin/pip install --quiet -e '.[$*]'
	@touch $@

run: .venv/.run
	@echo "imconnect starts; Ctrl-C stops it. Two more terminals for two people:"
	@echo "  make chat $(CHAT)USER=1001 TO=1002"
	@echo "  make chat $(CHAT)USER=1002 TO=1001"
	@$(if $(ARGS),echo "HOST and PORT: see the line «ready: ws://HOST:PORT» below",echo "health, metrics, statistics: http://127.0.0.1:10002/   data: ./var")
	@exec .venv/bin/twistd -n --pidfile= imconnect $(ARGS)

chat: .venv/.run
	@test -n "$(WHO)" -a -n "$(TO)" || { echo "usage: make chat USER=1001 TO=1002" >&2; exit 2; }
	@exec .venv/bin/imconnect chat $(URL) $(WHO) --to $(TO)

# The library exists for x86_64 alone; where it is missing, its tests are skipped (and fail in CI).
test: .venv/.test $(if $(filter x86_64,$(shell uname -m)),librocketmq)
	@.venv/bin/python .ci/trial $(TESTS)

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/mypy

# The generator decides which protobuf is needed at run time: this one is content with 6.31.1.
.cache/protoc:
	.venv/bin/pip install --quiet --target $@ grpcio-tools==1.74.0

proto: .venv/.dev .cache/protoc
	PYTHONPATH=.cache/protoc .venv/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. imconnect/wire/*.proto

docs: .venv/.run
	.venv/bin/python -m imconnect.config.doc > docs/configuration.md

# For rocketmq.transport: client-python. The package, and beside it the only librocketmq that a registry has (x86_64):
# data only, in a folder that is never on sys.path, because it brings a `rocketmq` package of its own.
librocketmq: .venv/.client-python .cache/native/rocketmq/librocketmq.so

.cache/native/rocketmq/librocketmq.so: | .venv/.run
	@.venv/bin/pip install --quiet --no-deps --target .cache/native rocketmq==0.4.4

# Servers for development. They stay in the foreground; Ctrl-C, or the end of their input, stops them.
rocketmq: .venv/.test
	@exec .venv/bin/python -m tests.servers.rocketmq_broker $(ARGS)

mariadb: .venv/.test
	@exec .venv/bin/python -m tests.servers.mariadb --dir .cache/mariadb $(ARGS)

redis: .venv/.test
	@exec .venv/bin/python -m tests.servers.redis --dir .cache/redis $(ARGS)

# RocketMQ, Redis, MariaDB, imbusiness and three gateways on this machine; data and logs in .cache/cluster.
cluster: .venv/.test
	@exec .venv/bin/python -m tests.servers.cluster $(ARGS)

# It starts, two people talk through it, and it stops: too slow (a JVM, a new database) to be a part of `make test`.
test-cluster: .venv/.test
	@.venv/bin/python .ci/trial tests.live.smoke_cluster

test-rocketmq-5.5: .venv/.test
	@IMCONNECT_ROCKETMQ_VERSION=5.5.0 .venv/bin/python .ci/trial tests.live.test_rocketmq_real

# The database is away for a minute while people chat, and hangs for longer than an answer may take.
test-away: .venv/.test
	@IMCONNECT_AWAY_SECONDS=60 .venv/bin/python .ci/trial tests.live.test_mariadb_away

# Nothing that was acknowledged is lost, and nothing is shown twice (docs/reliability.md).
# Everything real, random kills; FORM=embedded: one process on SQLite.
ledger: .venv/.test
	@exec .venv/bin/python -m tests.live.ledger --seed $(SEED) --minutes $(MINUTES) --form $(FORM) --ack-after $(ACK_AFTER)

# Each process killed at each point; without CELL all of them, and the table in docs/reliability.md is written anew.
crash-matrix: .venv/.test
ifdef CELL
	@IMCONNECT_MATRIX=$(CELL) .venv/bin/python .ci/trial tests.live.test_crash_matrix
else
	@results=$$(mktemp); trap 'rm -f $$results' EXIT; \
	IMCONNECT_MATRIX=all IMCONNECT_MATRIX_RESULTS=$$results .venv/bin/python .ci/trial tests.live.test_crash_matrix; \
	.venv/bin/python -m tests.live.matrix $$results docs/reliability.md
endif

clean:
	rm -rf .venv build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache twisted/plugins/dropin.cache
	find imconnect tests twisted -name __pycache__ -prune -exec rm -rf {} +
