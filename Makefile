# What a person types. Each target is a script, so that nothing here needs make to work.

.DEFAULT_GOAL := help
.PHONY: help demo test conformance compatibility lint bench fmt

help: ## Show this list
	@sed -n 's/^\([a-z]*\): ## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | \
	  while read -r target text; do printf '  make %-13s %s\n' "$$target" "$$text"; done

demo: ## Fetch what is needed, build, serve three models, ask each; ARGS=--once ends after that
	@scripts/demo $(ARGS)

test: ## Run every test; ARGS go to the test runner, for example ARGS="-p inferring-policy"
	@scripts/test $(ARGS)

conformance: ## Answers against those of ONNX Runtime's Python API; see conformance/README.md
	@scripts/conformance $(ARGS)

compatibility: ## Clients of other servers, and other servers; see compatibility/README.md
	@scripts/compatibility $(ARGS)

lint: ## Formatting, clippy, documentation, dependencies and licences, spelling, scripts
	@scripts/lint

bench: ## Measure and compare; see bench/README.md
	@bench/run $(ARGS)

fmt: ## Format Rust and Python
	@scripts/fmt
