"""Sweeps: a search space explored by Optuna, by any number of workers, losing nothing.

spec/       the sweep file, read and validated
check       every corner of its space built before the first trial
storage/    the study with its sampler and pruner; the queue of trials and their signs of life
workers/    processes that take trials: training, record, figures of the validation images
engines/    ways to start workers
driver      starts workers and watches them
show/       the terminal's table and the page
"""
