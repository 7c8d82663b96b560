# Everything a user does, from a bare machine with Python 3.11+ and make:
#
#   make demo      the main job on a bundled Pong teacher, up to 10 minutes on 2 cores
#   make test      the test suite
#
# Both set up .venv by themselves. The stages on their own:
#
#   make collect  CONFIG=configs/pong.yaml ARGS="--collect.states=100000"
#   make distill  CONFIG=configs/pong.yaml ARGS="--objective.jacobian_weight=0.1"
#   make imitate  CONFIG=configs/breakout.yaml ARGS="--student.name=nature --imitate.minutes=30"
#   make rounds   CONFIG=configs/pong.yaml ARGS="--rounds.keep=data/pong-own --rounds.until_share=0.97"
#   make finetune CONFIG=configs/breakout.yaml ARGS="--finetune.init=runs/my-student"
#   make sweep    CONFIG=configs/sweep.yaml ARGS="--sweep.games=8"
#   make pbt      CONFIG=configs/pong.yaml ARGS="--pbt.num_workers=8"
#   make shrink   CONFIG=configs/shrink.yaml
#   make evaluate CONFIG=configs/pong.yaml ARGS="--evaluate.agents=[teacher,runs/my-student]"
#   make report   CONFIG=configs/pong.yaml
#
# GPU: install the torch build you want into .venv first, then `make setup CONSTRAINTS=`.

PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
DISTILL     := $(BIN)/distill
CONSTRAINTS ?= -c constraints.txt
CONFIG      ?= configs/pong.yaml
ARGS        ?=
DEVICE      ?= cpu
GAME        ?= breakout
INIT        ?=
LOGDIR      ?= runs
PORT        ?= 6006

.PHONY: setup demo smoke collect distill imitate rounds finetune multitask sweep pbt shrink evaluate attack report tensorboard teacher test test-slow bench bench-peer paper paper-regression paper-synthetic paper-atari paper-robust paper-digits paper-spacetime paper-population docs tables coverage versions same mutants lint typecheck format clean

setup: $(VENV)/.runtime

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(BIN)/python -m pip install --disable-pip-version-check -q $(CONSTRAINTS) -e ".[dev]"
	@touch $@

$(VENV)/.onnx: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(BIN)/python -m pip install --disable-pip-version-check -q $(CONSTRAINTS) -e ".[onnx]"
	@touch $@

$(VENV)/.ray: pyproject.toml constraints.txt | $(VENV)/.runtime
	$(BIN)/python -m pip install --disable-pip-version-check -q $(CONSTRAINTS) -e ".[ray]"
	@touch $@

# Two students from one dataset. The teacher plays first; a first student then plays its own games,
# which the teacher labels too (DAgger), because a student must know the states it gets itself into.
# The plain student takes as many steps as cost what derivatives cost, so that both have equal time.
# Every line resumes what was cut off and skips what is done. The first student is of the data before its own games
# were added, so that once it is there it is not asked for again.
define PIPELINE
	$(DISTILL) collect  --config $(1)
	test -f $(2)/first/student/student.json || \
	  $(DISTILL) train  --config $(1) --config configs/first-student.yaml --train.out $(2)/first
	$(DISTILL) collect  --config $(1) --collect.actor $(2)/first
	$(DISTILL) train    --config $(1) --train.out $(2)/kl --objective.jacobian_weight 0 --train.steps $(3)
	$(DISTILL) train    --config $(1) --train.out $(2)/sobolev
	$(DISTILL) evaluate --config $(1) --evaluate.agents "[teacher,kl=$(2)/kl,sobolev=$(2)/sobolev]"
	$(DISTILL) report   --config $(1)
endef

demo: $(VENV)/.runtime
	$(call PIPELINE,configs/demo.yaml,runs/demo,9500)

smoke: $(VENV)/.runtime
	$(call PIPELINE,configs/smoke.yaml,runs/smoke,66)

collect: $(VENV)/.runtime
	$(DISTILL) collect --config $(CONFIG) $(ARGS)

distill: $(VENV)/.runtime
	$(DISTILL) train --config $(CONFIG) $(ARGS)

imitate: $(VENV)/.runtime
	$(DISTILL) imitate --config $(CONFIG) $(ARGS)

rounds: $(VENV)/.runtime
	$(DISTILL) rounds --config $(CONFIG) $(ARGS)

finetune: $(VENV)/.runtime
	$(DISTILL) finetune --config $(CONFIG) $(ARGS)

multitask: $(VENV)/.runtime
	$(DISTILL) multitask $(ARGS)

sweep: $(VENV)/.runtime
	$(DISTILL) sweep --config $(CONFIG) $(ARGS)

pbt: $(VENV)/.runtime $(VENV)/.ray
	$(DISTILL) pbt --config $(CONFIG) $(ARGS)

shrink: $(VENV)/.runtime $(VENV)/.onnx
	$(DISTILL) shrink --config $(CONFIG) $(ARGS)

evaluate: $(VENV)/.runtime
	$(DISTILL) evaluate --config $(CONFIG) $(ARGS)

attack: $(VENV)/.runtime
	$(DISTILL) attack --config $(CONFIG) $(ARGS)

report: $(VENV)/.runtime
	$(DISTILL) report --config $(CONFIG) $(ARGS)

tensorboard: $(VENV)/.runtime
	$(BIN)/tensorboard --logdir $(LOGDIR) --port $(PORT)

teacher: $(VENV)/.runtime
	$(BIN)/python -m teachers.train --env $(GAME) $(if $(INIT),--init $(INIT)) $(ARGS)

# A process for each core, four at most, of one thread; all tests of a file in the same one. ARGS=-n0 takes one process.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadfile

test: $(VENV)/.dev
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow $(ARGS)

# What a benchmark compares with and nothing else needs gets an environment of its own; imitation asks for older versions.
PEERS := imitation envpool
$(VENV)/.peer: $(PEERS:%=benchmarks/requirements-%.txt) | $(VENV)/bin/python
	for peer in $(PEERS); do $(BIN)/python -m venv $(VENV)/$$peer && \
	$(VENV)/$$peer/bin/python -m pip install --disable-pip-version-check -q -r benchmarks/requirements-$$peer.txt || exit 1; done
	@touch $@

bench-peer: $(VENV)/.peer

bench: $(VENV)/.runtime $(VENV)/.peer
	$(BIN)/python benchmarks/everything.py --device $(DEVICE) $(ARGS)

# The tests once more, counting which lines they run; about a sixth more processor time.
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" --cov=distill --cov=teachers --cov-report=term:skip-covered $(ARGS)

# The oldest and the newest libraries on every Python that is here: long downloads (.ci/versions --help).
versions:
	$(PYTHON) .ci/versions $(ARGS)

# The studies of the paper's claims; docs/paper.md has what came out. ARGS=--quick for a small form in minutes.
paper: paper-regression paper-synthetic paper-atari

paper-regression: $(VENV)/.dev
	$(BIN)/python -m studies.regression $(ARGS)

paper-synthetic: $(VENV)/.dev
	$(BIN)/python -m studies.synthetic $(ARGS)

paper-atari: $(VENV)/.dev
	$(BIN)/python -m studies.atari $(ARGS)

# What other papers say of robustness, activations and populations: docs/robustness.md, docs/paper/spacetime.md,
# docs/scale.md.
paper-robust: $(VENV)/.dev
	$(BIN)/python -m studies.robust $(ARGS)

paper-digits: $(VENV)/.dev
	$(BIN)/python -m studies.digits $(ARGS)

paper-spacetime: $(VENV)/.dev
	$(BIN)/python -m studies.spacetime $(ARGS)

paper-population: $(VENV)/.dev
	$(BIN)/python -m studies.population $(ARGS)

# The site, in build/site: the pages of docs/ and the Python API from the docstrings.
$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q $(CONSTRAINTS) -e ".[docs]"
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Tables in the pages that are made of the toolkit's own entries: presets, formats, terms, layers, figures.
tables: $(VENV)/.runtime
	$(BIN)/python docs/tables.py

# Whether a change computes the same, to the bit, as an earlier revision.
BEFORE ?= HEAD~1
same: $(VENV)/.runtime
	$(BIN)/python tests/same_bits.py $(BEFORE)

# How much of the code the tests hold in place: a sample of small changes, up to ten minutes (docs/testing.md).
mutants: $(VENV)/.dev
	$(BIN)/python tests/mutants.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
