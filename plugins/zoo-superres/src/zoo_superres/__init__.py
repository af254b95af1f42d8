"""Super-resolution for zoo: networks, a task, a dataset, and a technique that folds linear convolutions."""
