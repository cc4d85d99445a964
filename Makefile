# `make demo` and `make test` are all a new user needs; both set up `.venv` first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CORES  ?= all

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz mutants bench parity docs ui lock clean

help:            ## list the targets
	@grep -E '^[a-z]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the pinned, hashed dependencies and install crossmodal into it

# uv lives in the environment itself: nothing but Python is asked of the machine.
$(STAMP): requirements/lock.txt requirements/build.txt requirements/install.sh pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "crossmodal needs Python 3.11 or newer; set PYTHON=..." >&2; exit 1; }
	@echo "installing the pinned dependencies (torch with its CUDA libraries: about 5 GB)"
	@sh requirements/install.sh $(BIN)/python
	@touch $(STAMP)
	@echo "ready: source $(BIN)/activate"

test: setup      ## ruff and the whole test suite
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# ONLY=evaluation (a package) or evaluation/ranking (a module), several by commas; SAMPLE=300 draws as many of each package.
mutants: setup   ## put small faults into the source and see which the tests notice (hours; ONLY=evaluation SAMPLE=100)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[mutants]'
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py $(if $(ONLY),--only $(ONLY)) $(if $(SAMPLE),--sample $(SAMPLE)) \
	    $(if $(SEED),--seed $(SEED)) $(if $(AGAIN),--again)

fuzz: setup      ## give mutated files to every reader (COUNT=3000 of each)
	@OMP_NUM_THREADS=1 CROSSMODAL_FUZZ=$(or $(COUNT),3000) $(BIN)/python -m pytest tests/fuzz

demo: setup      ## drawn data through the whole pipeline, a few experiments of each paper
	@$(BIN)/snakemake --cores $(CORES) quick --quiet rules --config 'scales={embedded: {prefer_raw: false}}' || { echo "a step failed: its log, shown above, says why" >&2; exit 1; }
	@echo
	@echo "look at   results/quick/report.html    (tables, curves, a gallery)"
	@echo "          results/quick/tables/        (each table as csv, md, tex, html)"
	@echo "compare   make ui                      (every run in MLflow)"
	@echo "all runs  source $(BIN)/activate && snakemake --cores all all"

bench: setup     ## measure each step against its floor, into benchmarks/results
	@$(BIN)/python benchmarks/extraction.py
	@$(BIN)/python benchmarks/audio.py
	@$(BIN)/python benchmarks/mesh.py
	@$(BIN)/python benchmarks/regions.py
	@$(BIN)/python benchmarks/released.py
	@$(BIN)/python benchmarks/training.py
	@$(BIN)/python benchmarks/device.py
	@$(BIN)/python benchmarks/spaces.py
	@$(BIN)/python benchmarks/attention.py
	@$(BIN)/python benchmarks/recurrent.py
	@$(BIN)/python benchmarks/graphs.py
	@$(BIN)/python benchmarks/video.py
	@$(BIN)/python benchmarks/store.py
	@$(BIN)/python benchmarks/rawfiles.py
	@$(BIN)/python benchmarks/ranking.py --large
	@$(BIN)/python benchmarks/significance.py
	@$(BIN)/python benchmarks/claims.py
	@$(BIN)/python benchmarks/captions.py
	@$(BIN)/python benchmarks/captioning.py
	@$(BIN)/python benchmarks/report.py
	@$(BIN)/python benchmarks/search.py
	@$(BIN)/python benchmarks/nearest.py
	@$(BIN)/python benchmarks/encoders.py

parity: setup    ## ours and the authors' programs side by side: PROGRAMS=folder of theirs, DATA=folder of the photographs
	@$(BIN)/python benchmarks/parity/run.py --programs "$(PROGRAMS)" --data "$(DATA)"

docs: setup      ## build the documentation into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "look at   build/site/index.html"

ui: setup        ## serve the MLflow pages on http://127.0.0.1:5000, behind a password of your own
	@$(BIN)/python -m crossmodal.reporting.tracking.server

lock:            ## pin the dependencies of pyproject.toml again
	uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header \
	    --output-file requirements/lock.txt pyproject.toml
	echo uv | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --output-file requirements/uv.txt -
	printf 'editables\nhatchling\nsetuptools\nwheel\n' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --constraints requirements/lock.txt --output-file requirements/build.txt -
	uv pip compile --quiet --universal --python-version 3.11 --extra sentence-transformers --generate-hashes --no-emit-index-url \
	    --no-header --constraints requirements/lock.txt --output-file requirements/sentence-transformers.txt pyproject.toml

clean:           ## remove what runs have made, not the environment
	rm -rf -- data .snakemake .checkpoints logs
	@if [ -d results ]; then find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference -exec rm -rf -- {} +; fi
