"""Sweeps: search spaces explored by Optuna with any number of workers, robust to kills and outages.

spec/       the sweep file, read and validated
check       builds every corner of the space before the first trial
storage/    the study with its sampler and pruner; the queue of trials and their heartbeats
workers/    processes that run trials: training, record, metrics of the validation images
engines/    ways to start workers
driver      starts workers and watches them
show/       the terminal's table and the page
"""

from vaebench.configuration.callable import callable_package

callable_package(__name__, "vaebench.interface.sweep")  # vb.sweep
