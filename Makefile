.PHONY: help run demo test check docs

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

run: ## Start the router on 127.0.0.1:8080 with an embedded database under ./data
	@scripts/run

demo: ## Try the whole product with no provider account and no network
	@scripts/demo

test: ## Run all tests
	@scripts/test

check: ## Format, lint, types, import contracts, docs freshness
	@scripts/check

docs: ## Write the generated reference pages anew
	@scripts/environment development && .venv/bin/python scripts/reference.py
