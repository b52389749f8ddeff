"""Training networks that come apart: a modularity loss for any loop, the schedule that works, and its baselines.

modularity = pellucid.train.Modularity(model, (x,), start=1000)   # add() after backward(), every step
trained = pellucid.train.train(pellucid.train.recipe("double-digits").task)
"""

from pellucid.train import callbacks
from pellucid.train.display import displayed
from pellucid.train.modularity import Modularity
from pellucid.train.recipes import RECIPES, Recipe, planned, recipe
from pellucid.train.regularisers import Sparsity
from pellucid.train.run import Diverged, Progress
from pellucid.train.schedule import METHODS, Figures, Trained, train
from pellucid.train.task import Plan, Task

__all__ = [
    "METHODS",
    "RECIPES",
    "Diverged",
    "Figures",
    "Modularity",
    "Plan",
    "Progress",
    "Recipe",
    "Sparsity",
    "Task",
    "Trained",
    "callbacks",
    "displayed",
    "planned",
    "recipe",
    "train",
]
