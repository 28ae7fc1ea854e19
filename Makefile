# make lab    open the first notebook in JupyterLab
# make demo   run the first notebook without a browser; fails if a cell fails
# make test   everything that CI runs
# make fast   the quick tests only
# make lowest some of each room's, with the lowest versions that pyproject.toml allows

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests that run at once, a file each: as many as there are processors, within what memory bears.
JOBS   ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$cores -lt 4 ] && echo $$cores || echo 4)
# A process that dies, or hangs in one test, ends the run with an error: xdist waits for ever for its other tests.
TESTS  := --quiet --numprocesses $(JOBS) --dist loadfile --max-worker-restart 0 -o faulthandler_exit_on_timeout=true
# Jupyter refuses to run as root, as in a container, unless it is told that this is meant.
ROOT   := $(if $(filter 0,$(shell id -u 2>/dev/null)),--allow-root)

# Files whose parameters are documented one by one: what users name, and what authors of other packages implement.
SEAMS  := architectures compressors data/sources exporters features/modalities importers runtimes
PUBLIC := $(wildcard maas_magics/*.py maas_magics/api/*.py maas_magics/trackers/*.py) \
	$(SEAMS:%=maas_magics/core/%/__init__.py) $(wildcard maas_magics/core/architectures/*.py) \
	$(addprefix maas_magics/core/,registry.py features/base.py tasks/base.py store/storage.py)
# Rooms of the seams, whose methods have their parameters where the seam declares them.
ROOMS  := $(SEAMS) features tasks store

# An activated environment would leak into the kernels that the tests start; and each of the many processes that they
# start would compile all that it imports, where Python may not write that down.
unexport VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

.PHONY: lab demo test fast lowest lint notebooks browser peers clean

lab: $(VENV)/lab
	$(BIN)/jupyter lab $(ROOT) --LabApp.default_url=/lab/tree/notebooks/01_quickstart.ipynb

demo: $(VENV)/lab
	MAAS_UI=static MAAS_STORE=$$(mktemp -d) $(BIN)/python notebooks/run.py notebooks/01_quickstart.ipynb out

test:
	$(MAKE) --jobs $(JOBS) --output-sync lint peers
	$(MAKE) fast
	$(MAKE) lowest
	$(MAKE) --jobs $(JOBS) --output-sync notebooks demo
	$(MAKE) browser

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/numpydoc lint $(PUBLIC)
	$(BIN)/numpydoc lint $(shell find $(ROOMS:%=maas_magics/core/%) -name '*.py') --ignore PR01
	$(BIN)/numpydoc lint $(shell find maas_magics -name '*.py') --ignore PR01,PR04,PR07

fast: $(VENV)/test
	$(BIN)/pytest $(TESTS) -m "not browser" --durations 20

# Old releases on new ones of what they need are deprecated in many ways: warnings are no errors here.
lowest: $(VENV)/lowest/done
	$(VENV)/lowest/bin/pytest $(TESTS) -m "lowest and not slow and not browser" -W default --durations 20

notebooks: $(patsubst notebooks/%.ipynb,check-%,$(wildcard notebooks/*.ipynb))

check-%: notebooks/%.ipynb $(VENV)/test
	MAAS_UI=static MAAS_STORE=$$(mktemp -d) $(BIN)/pytest --quiet --nbval \
		--nbval-sanitize-with notebooks/sanitize.cfg -p no:warnings $<

browser: $(VENV)/test
	$(BIN)/pytest $(TESTS) -m browser

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/lab: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[lab]"
	touch $@

$(VENV)/test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/lowest/done: $(VENV)/bin/python pyproject.toml .ci/lowest.py
	$(BIN)/python -m venv --clear $(VENV)/lowest
	$(BIN)/python .ci/lowest.py test > $(VENV)/lowest/constraints.txt
	$(VENV)/lowest/bin/python -m pip install --quiet --constraint $(VENV)/lowest/constraints.txt --editable ".[test]"
	touch $@

# Programs of others that the tests speak with; each has an environment of its own, for their needs conflict.
peers: $(VENV)/peers/kserve/done $(VENV)/peers/mlserver/done $(VENV)/peers/mlflow/done \
  $(VENV)/peers/langchain/done $(VENV)/peers/litellm/done $(VENV)/peers/jupyter-ai/done

$(VENV)/peers/%/done: $(VENV)/bin/python
	$(BIN)/python -m venv $(VENV)/peers/$*
	$(VENV)/peers/$*/bin/python -m pip install --quiet $(NEEDS_$*)
	touch $@

NEEDS_kserve   := kserve==0.21.0
NEEDS_mlserver := mlserver==1.7.1 onnxruntime==1.32.0
NEEDS_langchain := langchain-openai==1.7.4
NEEDS_litellm  := litellm==1.110.2
NEEDS_jupyter-ai := jupyter-ai-magics==2.31.7 langchain-openai==0.3.35
NEEDS_mlflow   := mlflow-skinny==3.17.2 alembic==1.20.1 sqlalchemy==2.1.9 msgspec==0.22.0 platformdirs==4.14.7

clean:
	rm -rf $(VENV) out build dist
