# make book   environment, the notebooks' live runs, the gate, the site: read it in build/_build/html/index.html
#             TIER=paper|real makes an edition of your own on that tier instead, in build/edition-TIER
# make test   the proof: lint, unit tests, the gate, a sample of the evidence trained anew, mutation tests, the site in a browser
# make proof  trains all of the evidence anew and compares it; hours, and it goes on where it was cut off
# make soak   new odd files, kills, full disks and flipped bits for an hour; MINUTES=60
#
# PYTHON     the interpreter that the environment is made of (3.11)
# TORCH_INDEX  an index of CPU or CUDA builds of torch, where pip's own configuration does not name the one you want
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
TORCH_INDEX ?=
TIER ?= embedded
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
SPHINX = $(BIN)/jupyter-book build . --toc book/_toc.yml --path-output build --quiet -n -W --keep-going
PYTEST = $(BIN)/python -m pytest -q -n 2
# A step's arrays of megabytes come from memory that the process keeps, not from fresh pages of the system: a twentieth of the time of all runs.
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864
# The pages show the committed evidence and what they make themselves, never runs that a user has made, nor what
# lies under $$UCDR_DATA: runs of real pictures are shown from the evidence.
BOOK_HOME ?= $(CURDIR)/build/home
IN_BOOK_HOME = UCDR_HOME=$(BOOK_HOME) UCDR_DATA=$(BOOK_HOME)/data UCDR_TRIAL=

# What make itself makes from nothing.
MADE = build/.gated build/_build build/static build/home build/test-home

.PHONY: book test proof env live gate real doodle site notebooks evidence lint unit sample mutation soak site-check clean

ifeq ($(TIER),embedded)
book: gate site
	@echo "open $(CURDIR)/build/_build/html/index.html"
else
book: env
	$(BIN)/python -m ucdr_core.apps.edition $(TIER) build/edition-$(TIER)
endif

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --constraint constraints.txt --editable '.[book,test]'
	touch $@

live: env
	$(IN_BOOK_HOME) $(KEEP_MEMORY) $(BIN)/ucdr reproduce --live

# What the gate passed is not executed again until the notebooks, the library, the evidence or the pinned versions change.
gate: live
	$(IN_BOOK_HOME) $(BIN)/python -m ucdr_core.apps.gate

# Re-executes the committed notebooks in place: for authors, after a change of code.  Look at the differences before you commit them.
notebooks: live
	$(IN_BOOK_HOME) OMP_NUM_THREADS=1 $(BIN)/python -m ucdr_core.apps.notebooks

# Writes the committed evidence from the runs of this machine, for authors: all runs of the tier are made first.
evidence: env
	$(KEEP_MEMORY) $(BIN)/ucdr reproduce --tier $(TIER)
	$(BIN)/python -m ucdr_core.chapters.collect $(TIER)

proof: env
	$(KEEP_MEMORY) $(BIN)/ucdr verify --all --tier $(TIER)

# Trains runs of real pictures anew, where they are ($$UCDR_DATA), and compares them with the committed evidence.
real: env
	$(KEEP_MEMORY) $(BIN)/ucdr verify --sample --tier real
	$(BIN)/python -m pytest -q -m real tests

# The doodle page's model, gallery and runtime are made of the reader's run; without npm the page says what is missing.
DOODLE = build/static/doodle
doodle: $(DOODLE)/build.json

$(DOODLE)/build.json: $(wildcard ucdr_core/apps/web/*) ucdr_core/apps/export.py ucdr_core/apps/encoder.py $(BOOK_HOME)/runs
	rm -rf $(@D)
	$(IN_BOOK_HOME) $(BIN)/ucdr export --page --gallery real,clipart --to $(@D)

# The digests of the built files are kept beside them: `ucdr publish` refuses a site that is not as it was built.
site: live doodle
	$(BIN)/python -m ucdr_core.apps.publish building
	$(SPHINX)
	$(BIN)/python -m ucdr_core.apps.publish built

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache | tail -5

unit: env
	$(PYTEST) --dist loadfile -m "not gate and not real and not site" tests

sample: env
	$(IN_BOOK_HOME) $(KEEP_MEMORY) $(BIN)/ucdr verify --sample --home $(BOOK_HOME)/proof

mutation: live
	$(IN_BOOK_HOME) $(PYTEST) -m "gate and not site and not real" tests

site-check: live site
	$(IN_BOOK_HOME) $(PYTEST) -m site tests

# Cases that fail are kept in build/soak/failures; a soak that ran to its end writes ucdr_core/evidence/soak.json.
MINUTES ?= 60
soak: env
	$(BIN)/python tests/soak.py --minutes $(MINUTES) --to build/soak --commit

# From nothing: what was made before does not count, so the proof has a home of its own.
test: export BOOK_HOME = $(CURDIR)/build/test-home
test: env
	rm -rf $(MADE)
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) gate
	$(MAKE) sample
	$(MAKE) mutation
	$(MAKE) site-check

# Runs, caches and drawn splits (.ucdr) and exports and editions under build/ are the user's, and stay.
clean:
	rm -rf $(MADE)
