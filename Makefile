# make train   the main job, from nothing: environment, training, evaluation, table
# make table   the rows of the paper's CIFAR-10 table in miniature, on digits: twenty to thirty minutes on two cores
#              on CIFAR-10, or a part of it: make table TABLE=cifar10 WITH=dataset.root=<folder>
# make test    the test suite, on up to four cores (make test-slow: everything)
# make bench   how fast everything is, beside other packages: docs/performance.md
#              BENCH="pgd step --data <folder>" for some rows, or on real networks
PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.installed

# tests of one module share what they set up, and stay together
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadscope

TABLE  := digits
WITH   :=
ROWS   := normal at_linf trades_linf at_l2 at_stadv at_recoloradv at_all_random at_all_average at_all_maximum pat_self pat_alexnet
comma  := ,
space  := $(subst ,, )
listed  = $(subst $(space),$(comma),$(1))

BENCH  := --few 4 --images 32 --turns 3 --queries 500 --targets 3

.PHONY: setup train table test test-slow bench lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Gauntlet needs Python 3.11 or newer, this is {sys.version.split()[0]}: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint,models]'
	@touch $@

train: setup
	$(VENV)/bin/python train.py defense=pat_alexnet

table: setup
	$(VENV)/bin/python train.py -m +experiment/miniature=$(TABLE) defense=$(call listed,$(ROWS)) outputs=outputs/table $(WITH)
	$(VENV)/bin/python report.py 'runs=[$(call listed,$(ROWS:%=outputs/table/$(TABLE)/%-small_resnet))]' \
		suite=miniature folder=outputs/table/$(TABLE)-report

test: setup
	$(VENV)/bin/python -m pytest $(PARALLEL)

test-slow: setup
	$(VENV)/bin/python -m pytest $(PARALLEL) -m 'slow or not slow'

# torchattacks asks for an old release of requests, which it does not use to attack anything: without its dependencies
$(VENV)/.bench: $(STAMP)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1
	@touch $@

bench: $(VENV)/.bench
	$(VENV)/bin/python -m scripts.bench $(BENCH)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
