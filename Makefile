# make book   environment, tier-E runs, gate, site: read it in build/_build/html/index.html
# make test   the same from nothing in a folder of its own, with the unit tests, the mutation test of the gate and the site check
#
# PYTHON     the interpreter that the environment is made of (3.11)
# TORCH_INDEX  an index of CPU or CUDA builds of torch, where pip's own configuration does not name the one you want
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
TORCH_INDEX ?=
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
NBVAL = $(BIN)/python -m pytest -q --nbval --nbval-current-env --nbval-cell-timeout=600 --dist loadscope -n 2 -p no:cacheprovider notebooks
SPHINX = $(BIN)/jupyter-book build . --toc book/_toc.yml --path-output build --quiet -n -W --keep-going
# Two processes with two threads each slow one another down on two cores; notebooks and unit tests that run beside others take one.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# A step's arrays of megabytes come from memory that the process keeps, not from fresh pages of the system: a twentieth of the time of all runs.
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864

.PHONY: book test env runs gate real doodle site notebooks unit mutation site-check clean

book: gate site
	@echo "open $(CURDIR)/build/_build/html/index.html"

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt --editable '.[book,test]'
	touch $@

runs: env
	$(KEEP_MEMORY) $(BIN)/ucdr reproduce

# What the gate passed is not executed again until the notebooks, the library, the environment or the runs change; `ucdr reproduce`,
# which checks every record, makes damaged runs anew, and that changes the folder of the runs.
GATED = build/.gated
gate: runs
	@$(MAKE) --no-print-directory $(GATED)

$(GATED): $(wildcard notebooks/*.ipynb notebooks/*/*.ipynb) $(wildcard book/*) $(shell find ucdr_core -name '*.py' -o -name '*.csv' -o -name '*.json') constraints.txt $(or $(UCDR_HOME),.ucdr)/runs
	$(ONE_THREAD) $(NBVAL)
	$(BIN)/python -m ucdr_core.publish passed

# Re-executes the committed notebooks in place: for authors, after a change of code.  Look at the differences before you commit them.
notebooks: runs
	$(BIN)/python -m ucdr_core.notebooks

# Trains the table of real pictures anew, where they are ($$UCDR_DATA/sketchy25), and compares it with the committed records.
real: env
	$(BIN)/ucdr reproduce --paper sketchy25
	$(BIN)/python -m pytest -q -m real tests

# The doodle page's model, gallery and runtime are made of the reader's run; without npm the page says what is missing.
DOODLE = build/static/doodle
doodle: $(DOODLE)/build.json

$(DOODLE)/build.json: $(wildcard ucdr_core/web/*) ucdr_core/export.py ucdr_core/encoder.py $(or $(UCDR_HOME),.ucdr)/runs
	$(BIN)/ucdr export --page --gallery real,clipart --to $(@D)

site: runs doodle
	$(SPHINX)

unit: env
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not gate and not real" tests

mutation: runs
	$(BIN)/python -m pytest -q -n 2 -m "gate and not site and not real" tests

site-check: runs site
	$(BIN)/python -m pytest -q -n 2 -m site tests

# From nothing: runs made before do not count, so the proof has a home of its own.
test: export UCDR_HOME = $(CURDIR)/build/test-home
test: env
	rm -rf build
	$(MAKE) unit
	$(MAKE) gate
	$(MAKE) mutation
	$(MAKE) site-check

clean:
	rm -rf build .ucdr
