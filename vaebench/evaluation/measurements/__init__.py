"""The measurements that protocols name, one module each; see `vaebench.evaluation.protocol`."""
