"""The changes that a programmer's slip may make to a function: one operator, name or statement."""

import ast
import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult},
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq},
    **{ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn},
    **{ast.NotIn: ast.In},
}
FUNCTIONS = {
    **{"add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply"},
    **{"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "sum": "mean"},
    **{"mean": "sum", "sqrt": "square", "exp": "expm1", "log": "log1p", "sin": "cos", "cos": "sin"},
    **{"zeros": "ones", "ones": "zeros", "floor": "ceil", "argmax": "argmin"},
}
# What a message or a declaration says decides no number.
QUIET = (ast.Raise, ast.JoinedStr, ast.Assert)
DECLARED = {
    ast.FunctionDef: ("args", "decorator_list", "returns"),
    ast.AnnAssign: ("annotation",),
}


class Slip(NamedTuple):
    """A change that can be made.

    Attributes:
        what: it does.
        node: that is told of.
        owner: the node of which fields are changed.
        fields: their new values.
    """

    what: str
    node: ast.AST
    owner: ast.AST
    fields: dict[str, Any]


def changes(function: ast.FunctionDef) -> list[tuple[int, str, ast.FunctionDef]]:
    """Return all changed copies of a function, each with the line and what was changed."""
    found = []
    for number in range(len(list(_slips(function)))):
        own = copy.deepcopy(function)
        slip = list(_slips(own))[number]
        what = f"{slip.what}: {ast.unparse(slip.node)}"
        vars(slip.owner).update(slip.fields)
        found.append((getattr(slip.node, "lineno", 0), what, own))
    return found


def _slips(function: ast.FunctionDef) -> Iterator[Slip]:
    kin = _of_one_type(function)
    for statement in function.body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        for node, parent, name in () if is_text else _places(statement, function, "body"):
            for what, owner, fields in _of(node, kin):
                yield Slip(what, node, owner, fields)
            if _may_be_left_out(node):
                rest = [ast.Pass() if each is node else each for each in getattr(parent, name)]
                yield Slip("left out", node, parent, {name: rest})


def _places(node: ast.AST, parent: ast.AST, name: str) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """Yield every node that may be changed, with the one around it and the field it stands in."""
    if isinstance(node, QUIET):
        return
    yield node, parent, name
    for field, value in ast.iter_fields(node):
        if field not in DECLARED.get(type(node), ()):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    yield from _places(each, node, field)


def _may_be_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return not isinstance(node.targets[0], ast.Name | ast.Tuple)
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return called or isinstance(node, ast.AugAssign)


def _of_one_type(function: ast.FunctionDef) -> dict[str, str]:
    """Return for each parameter another one of the same type, or a sibling of an unpacking."""
    found: dict[str, str] = {}
    by_type: dict[str, list[str]] = {}
    arguments = function.args
    for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if each.annotation is not None:
            by_type.setdefault(ast.unparse(each.annotation), []).append(each.arg)
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            names = [each.id for each in node.targets[0].elts if isinstance(each, ast.Name)]
            by_type[f"unpacked in line {node.lineno}"] = [n for n in names if n != "_"]
    for names in by_type.values():
        for one, other in zip(names, [*names[1:], *names[:1]], strict=True):
            if one != other:
                found.setdefault(one, other)
    return found


Change = tuple[str, ast.AST, dict[str, Any]]


def _of(node: ast.AST, kin: dict[str, str]) -> Iterator[Change]:
    match node:
        case ast.BinOp(op=ast.MatMult()):
            yield "operands exchanged", node, {"left": node.right, "right": node.left}
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            new = OPERATORS[type(op)]()
            yield f"{type(op).__name__} becomes {type(new).__name__}", node, {"op": new}
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            becomes = COMPARISONS[type(op)]()
            yield f"{type(op).__name__} becomes {type(becomes).__name__}", node, {"ops": [becomes]}
        case ast.Constant(value=bool(value)):
            yield "negated", node, {"value": not value}
        case ast.Constant(value=int(value)):
            yield "one more", node, {"value": value + 1}
            if value > 0:
                yield "one less", node, {"value": value - 1}
        case ast.Constant(value=float(value)):
            yield "doubled", node, {"value": 2 * value if value else 1.0}
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "without its sign", node, {"operand": ast.UnaryOp(ast.Not(), operand)}
        case ast.UnaryOp(op=ast.USub()):
            yield "without its sign", node, {"op": ast.UAdd()}
        case ast.BoolOp(op=op):
            yield "and for or", node, {"op": ast.Or() if isinstance(op, ast.And) else ast.And()}
        case ast.IfExp():
            yield "branches exchanged", node, {"body": node.orelse, "orelse": node.body}
        case ast.If(test=test):
            yield "condition negated", node, {"test": ast.UnaryOp(ast.Not(), test)}
        case ast.Call():
            yield from _of_call(node)
        case ast.Name(id=name, ctx=ast.Load()) if name in kin:
            yield f"{kin[name]} for {name}", node, {"id": kin[name]}
        case ast.Slice(lower=lower, upper=upper) if lower is not None and upper is not None:
            yield "without its beginning", node, {"lower": None}


def _of_call(node: ast.Call) -> Iterator[Change]:
    called = node.func
    for function in (called, *node.args[:1]):
        if isinstance(function, ast.Attribute) and function.attr in FUNCTIONS:
            other = FUNCTIONS[function.attr]
            yield f"{other} for {function.attr}", function, {"attr": other}
    first = int(isinstance(called, ast.Name) and called.id == "call")  # call(np.add, a, b, out)
    if len(node.args) >= first + 2 and (first or re.fullmatch(r"np\.\w+", ast.unparse(called))):
        one, two = node.args[first : first + 2]
        exchanged = [*node.args[:first], two, one, *node.args[first + 2 :]]
        yield "arguments exchanged", node, {"args": exchanged}
    if isinstance(called, ast.Attribute) and called.attr == "copy" and not node.args:
        view = ast.Subscript(called.value, ast.Constant(...), ast.Load())
        yield "not copied", node, {"func": ast.Name("_same", ast.Load()), "args": [view]}
