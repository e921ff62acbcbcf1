"""Sweeps: a search space explored by Optuna, by any number of workers, losing nothing.

source, space, plan    the sweep file, read and validated
study                  storage, sampler, pruner
turns                  how workers take trials, give signs of life, and how lost trials come back
worker, figures        one trial: training, record, figures of the validation images
engines, driver        who starts workers, and who watches them
table, report          what the terminal and the page show
"""
