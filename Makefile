.PHONY: help run demo cluster test test-slow coverage check docs bench bench-compare weaken chaos fuzz

help: ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

run: ## Start the router on 127.0.0.1:8080 with an embedded database under ./data
	@scripts/run

demo: ## Try the whole product with no provider account and no network
	@scripts/demo

cluster: ## Three instances on PostgreSQL and Valkey behind a load balancer, on this machine
	@scripts/cluster

test: ## Run the tests, but for the slow ones (minutes)
	@scripts/test -m "not slow"

test-slow: ## Run the slow tests: real agents, benchmarks, kills under load, wheels, more examples
	@XAIROUTER_TEST_EXAMPLES=200 scripts/test -m "slow or property"

coverage: ## See which lines and branches the tests reach, and that no file falls below its mark
	@scripts/coverage

check: ## Format, lint, types, import contracts, docs freshness
	@scripts/check

docs: ## Write the generated reference pages anew
	@scripts/environment development && .venv/bin/python scripts/reference.py

bench: ## Measure the router beside nginx and the peers, on this machine (about twenty minutes)
	@scripts/bench $(BENCH)

bench-compare: ## Say what is better or worse, beyond noise, in the last of two kept runs
	@scripts/environment development && .venv/bin/python bench/run.py --compare $(BENCH)

weaken: ## Take one guard after the other out, and see that a test notices (about five minutes)
	@scripts/environment development && .venv/bin/python scripts/weaken.py $(WEAKEN)

chaos: ## Kill, stop, empty and fill everything around a running router (ten minutes; SEED=… repeats)
	@XAIROUTER_TEST_CHAOS=15 XAIROUTER_TEST_SEED=$(SEED) scripts/test -n 0 -s tests/system/test_chaos.py

fuzz: ## Fuzz what reads from outside, 20,000 examples a property (about ten minutes)
	@scripts/fuzz
