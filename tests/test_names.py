"""A name that stands in two rooms is the name of one concept: these are all of them, and why."""

import ast
from collections import defaultdict
from pathlib import Path

import overparam

ROOT = Path(overparam.__file__).parent
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}

MEASURED_TWICE = {  # once for a certificate, once by the re-check
    *("ball_steps", "balls", "composed", "curvature", "losses", "measured_kernel"),
    *("measured_partials", "memory", "partial_jacobians", "random_curvature"),
}
STATED_THEN_USED = {  # a theorem, and what puts numbers into it, checks it, or tells of it
    *("consequences", "convergence", "derandomised", "eigenvalue", "generalisation", "layer_norms"),
    *("lazy", "moments", "path", "stochastic", "trajectory", "transfer", "weight_decay"),
}
OFFERED_ELSEWHERE = {  # a command, an estimator, an application, and what it offers
    *("certify", "critic", "kernel", "output", "progress", "ridge", "run", "study", "verify"),
    "width",
}
CLASSES = {
    # Measured, followed or stated by the re-check once more.
    *("Bend", "Duals", "Looks", "MeasuredKernel", "Point"),
    *("CrossEntropy", "Expectile", "Huber", "LogCosh", "PseudoHuber", "SmoothedCrossEntropy"),
    *("SquaredHinge", "WeightedQuadratic"),
    # Something found, in words: of a job, of a kernel, of a study.
    "Finding",
    # The linearised run: before any draw, and beside a run.
    "LinearRun",
}


def shared(places):
    return {name for name, where in places.items() if len(where) > 1}


def test_a_file_name_in_two_rooms_is_one_concept():
    places = defaultdict(set)
    for path in TREES:
        if not path.stem.startswith("__"):
            places[path.stem].add(path)
    assert shared(places) == MEASURED_TWICE | STATED_THEN_USED | OFFERED_ELSEWHERE


def test_a_public_class_in_two_modules_is_one_concept():
    places = defaultdict(set)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(path)
    assert shared(places) == CLASSES
