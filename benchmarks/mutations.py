"""What a mutant is: one small change of a module's source, as cosmic-ray's operators make it and a few of our own.

Of cosmic-ray's operators those are taken that change a value and not its type (`+` becomes `-`, not `<<`), since a
mutant that cannot run says nothing of a test. Ours leave something out: a keyword argument, an entry of a list or
dictionary, a statement; and swap functions of the same form (`min` for `max`, `mean` for `sum`). Annotations, imports
for these alone, the texts of errors, what only guards against a slip of the code itself (`strict`) and `device` are
left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    exception_replacer,
    number_replacer,
    remove_decorator,
    unary_operator_replacement,
    zero_iteration_for_loop,
)
from cosmic_ray.operators.operator import Operator

BINARY = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul BitAnd_BitOr BitOr_BitAnd BitXor_BitOr"
COMPARED = "Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is"
UNARY = "USub_UAdd Delete_Invert Delete_Not"
SWAPS = {
    "min": "max", "minimum": "maximum", "amin": "amax", "argmin": "argmax", "clamp_min": "clamp_max",
    "any": "all", "mean": "sum", "floor": "ceil", "triu": "tril", "zeros": "ones", "zeros_like": "ones_like",
    "sin": "cos", "exp": "log", "softmax": "log_softmax",
}  # fmt: skip
SWAPS |= {new: old for old, new in SWAPS.items()}
SILENT = {"description", "strict", "device"}  # keyword arguments that only tell, or guard, or need a GPU to be missed


class _OneNode(Operator):
    """An operator that changes or removes each node that it `applies` to, in one way."""

    def mutation_positions(self, node):
        if self.applies(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return self.changed(node)

    @classmethod
    def examples(cls):
        return ()


class LeaveKeywordOut(_OneNode):
    """`f(x, k=1)` becomes `f(x)`."""

    def applies(self, node):
        return node.type == "argument" and len(node.children) == 3 and node.children[1].type == "operator" and (
            node.children[1].value == "=" and node.children[0].value not in SILENT
        )  # fmt: skip

    def changed(self, node):
        return _without(node)


class LeaveEntryOut(_OneNode):
    """`[a, b]` becomes `[b]`, and `{"a": 1, "b": 2}` becomes `{"b": 2}`."""

    def mutation_positions(self, node):
        for entry in self._entries(node):
            yield entry[0].start_pos, entry[-1].end_pos

    def mutate(self, node, index):
        gone = self._entries(node)[index]
        after = node.children.index(gone[-1]) + 1
        comma = node.children[after : after + 1]
        node.children = [one for one in node.children if not any(one is other for other in (*gone, *comma))]
        return node

    @staticmethod
    def _entries(node) -> list[list]:
        if node.type not in ("dictorsetmaker", "testlist_comp") or any(
            child.type in ("comp_for", "sync_comp_for") for child in node.children
        ):
            return []
        if node.parent.type != "atom" or node.parent.children[0].value not in "[{":
            return []
        entries: list[list] = [[]]
        for child in node.children:
            if child.type == "operator" and child.value == ",":
                entries.append([])
            else:
                entries[-1].append(child)
        return [entry for entry in entries if entry]


class LeaveStatementOut(_OneNode):
    """A call whose value is not used, or an augmented assignment, becomes `pass`."""

    def applies(self, node):
        if node.type != "expr_stmt" and not (
            node.type in ("atom_expr", "power") and node.children[-1].type == "trailer"
        ):
            return False
        if node.parent.type != "simple_stmt":
            return False
        return node.type != "expr_stmt" or (node.children[1].type == "operator" and node.children[1].value != "=")

    def changed(self, node):
        return parso.python.tree.Name("pass", node.start_pos, node.get_first_leaf().prefix)


class SwapFunction(_OneNode):
    """`x.mean()` becomes `x.sum()`, `max(a, b)` becomes `min(a, b)`."""

    def applies(self, node):
        if node.type != "name" or node.value not in SWAPS:
            return False
        called = node.get_next_leaf()
        is_called = called is not None and called.type == "operator" and called.value == "("
        before = node.get_previous_leaf()
        attribute = before is not None and before.type == "operator" and before.value == "."
        return is_called and (attribute or node.value in ("min", "max", "any", "all")) and node.parent.type != "funcdef"

    def changed(self, node):
        node.value = SWAPS[node.value]
        return node


def _without(node):
    """None, which takes an argument's place; the comma that follows it goes too."""
    siblings = node.parent.children
    place = next(i for i, one in enumerate(siblings) if one is node)
    if node.parent.type == "arglist" and place + 1 < len(siblings):
        siblings[place + 1].value = ""
    return None  # noqa: RET501 - what cosmic-ray takes for a removed node


def _chosen(module, names: str) -> list[type[Operator]]:
    by_suffix = {operator.__name__.partition("_")[2]: operator for operator in module.operators()}
    return [by_suffix[name] for name in names.split()]


OPERATORS: list[type[Operator]] = [
    *_chosen(binary_operator_replacement, BINARY),
    *_chosen(comparison_operator_replacement, COMPARED),
    *_chosen(unary_operator_replacement, UNARY),
    boolean_replacer.AddNot,
    boolean_replacer.ReplaceTrueWithFalse,
    boolean_replacer.ReplaceFalseWithTrue,
    boolean_replacer.ReplaceAndWithOr,
    boolean_replacer.ReplaceOrWithAnd,
    break_continue.ReplaceBreakWithContinue,
    break_continue.ReplaceContinueWithBreak,
    exception_replacer.ExceptionReplacer,
    number_replacer.NumberReplacer,
    remove_decorator.RemoveDecorator,
    zero_iteration_for_loop.ZeroIterationForLoop,
    LeaveKeywordOut,
    LeaveEntryOut,
    LeaveStatementOut,
    SwapFunction,
]


@dataclass(frozen=True)
class Mutant:
    """One change: where it is, the lines before and after (as one line), and the whole changed source."""

    file: str
    line: int
    old: str
    new: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.file, self.old, self.new


@dataclass(frozen=True)
class Place:
    """One place where one operator applies."""

    file: str
    line: int
    operator: type[Operator]
    occurrence: int

    def mutant(self) -> Mutant | None:
        """The mutant, or None for one that says the same as the source or cannot be compiled."""
        source = Path(self.file).read_text()
        changed = mutate_code(source, self.operator(), self.occurrence)
        try:
            if changed is None or _meaning(changed) == _meaning(source):
                return None
        except SyntaxError:
            return None
        before, after = source.splitlines(), changed.splitlines()
        first = 0
        while first < min(len(before), len(after)) and before[first] == after[first]:
            first += 1
        last = 0
        while last < min(len(before), len(after)) - first and before[-1 - last] == after[-1 - last]:
            last += 1
        old, new = (
            " ".join(" ".join(lines[first : len(lines) - last]).split()) or "(nothing)" for lines in (before, after)
        )
        return Mutant(self.file, first + 1, old, new, changed)


def places(file: str) -> Iterator[Place]:
    """Every place of a module where an operator applies, in the order of the operators."""
    source = Path(file).read_text()
    tree = parso.parse(source)
    silent = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Raise)
        for line in range(node.lineno, node.end_lineno + 1)
    } | {
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    }
    nodes = list(ast_nodes(tree))
    for operator in OPERATORS:
        found = [position for node in nodes for position in operator().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(found):
            if start[0] not in silent:
                yield Place(file, start[0], operator, occurrence)


@cache
def _meaning(source: str) -> str:
    """The syntax tree without annotations and guards, and without whether arguments may be given by name."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.arguments):
            node.args, node.posonlyargs = node.posonlyargs + node.args + node.kwonlyargs, []
            node.defaults, node.kwonlyargs, node.kw_defaults = (
                node.defaults + [d for d in node.kw_defaults if d],
                [],
                [],
            )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in SILENT]
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(value=None)
    return ast.dump(tree)
