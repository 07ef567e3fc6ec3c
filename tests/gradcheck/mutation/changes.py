"""The changes that a programmer's slip may make to a function: one operator, name or statement."""

import ast
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
FUNCTIONS = {
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "sum": "mean",
    "mean": "sum",
    "sqrt": "square",
    "exp": "expm1",
    "log": "log1p",
    "sin": "cos",
    "cos": "sin",
    "zeros": "ones",
    "ones": "zeros",
    "floor": "ceil",
    "argmax": "argmin",
}
# What a message or a declaration says decides no number.
QUIET = (ast.Raise, ast.JoinedStr, ast.Assert)
DECLARED = {
    ast.FunctionDef: ("args", "decorator_list", "returns"),
    ast.AnnAssign: ("annotation",),
}

Apply = Callable[[], str]


class Place(NamedTuple):
    """Where a change can be made: the node, and what is around it."""

    node: ast.AST
    body: list[ast.stmt] | None  # in which a statement stands, where it may be left out


def changes(function: ast.FunctionDef) -> list[tuple[int, str, ast.FunctionDef]]:
    """Return all changed copies of a function, each with the line and what was changed."""
    found = []
    for number in range(len(list(_applies(copy.deepcopy(function))))):
        own = copy.deepcopy(function)
        place, apply = list(_applies(own))[number]
        before = ast.unparse(place)
        what = apply()
        found.append((getattr(place, "lineno", 0), f"{what}: {before}", own))
    return found


def _applies(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, Apply]]:
    kin = _of_one_type(function)
    for place in _places(function):
        for apply in _of(place, kin):
            yield place.node, apply


def _places(function: ast.FunctionDef) -> Iterator[Place]:
    def visit(node: ast.AST, body: list[ast.stmt] | None) -> Iterator[Place]:
        if isinstance(node, QUIET):
            return
        yield Place(node, body)
        for name, value in ast.iter_fields(node):
            if name in DECLARED.get(type(node), ()):
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    inside = value if isinstance(each, ast.stmt) else None
                    yield from visit(each, inside)

    for statement in function.body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_text:
            yield from visit(statement, function.body)


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


def _of(place: Place, kin: dict[str, str]) -> Iterator[Apply]:
    node = place.node
    match node:
        case ast.BinOp(op=ast.MatMult()):
            yield lambda: _set("operands exchanged", node, left=node.right, right=node.left)
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            new = OPERATORS[type(op)]()
            yield lambda: _set(f"{type(op).__name__} becomes {type(new).__name__}", node, op=new)
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            becomes = COMPARISONS[type(op)]()
            yield lambda: _set(
                f"{type(op).__name__} becomes {type(becomes).__name__}", node, ops=[becomes]
            )
        case ast.Constant(value=bool(value)):
            yield lambda: _set("negated", node, value=not value)
        case ast.Constant(value=int(value)):
            yield lambda: _set("one more", node, value=value + 1)
            if value > 0:
                yield lambda: _set("one less", node, value=value - 1)
        case ast.Constant(value=float(value)):
            yield lambda: _set("doubled", node, value=2 * value if value else 1.0)
        case ast.UnaryOp(op=ast.USub() | ast.Not() as op, operand=operand):
            twice = {"operand": ast.UnaryOp(ast.Not(), operand)}
            bare = twice if isinstance(op, ast.Not) else {"op": ast.UAdd()}
            yield lambda: _set("without its sign", node, **bare)
        case ast.BoolOp(op=op):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield lambda: _set("and for or", node, op=other)
        case ast.IfExp():
            yield lambda: _set("branches exchanged", node, body=node.orelse, orelse=node.body)
        case ast.If(test=test):
            yield lambda: _set("condition negated", node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Call():
            yield from _of_call(node)
        case ast.Name(id=name, ctx=ast.Load()) if name in kin:
            yield lambda: _set(f"{kin[name]} for {name}", node, id=kin[name])
        case ast.Slice(lower=lower, upper=upper) if lower is not None and upper is not None:
            yield lambda: _set("without its beginning", node, lower=None)
    droppable = isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    stored = isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
    if place.body is not None and (droppable or stored):
        yield lambda: _dropped(place)


def _of_call(node: ast.Call) -> Iterator[Apply]:
    called = node.func
    for function in (called, *node.args[:1]):
        if isinstance(function, ast.Attribute) and function.attr in FUNCTIONS:
            other = FUNCTIONS[function.attr]
            yield partial(_set, f"{other} for {function.attr}", function, attr=other)
    first = int(isinstance(called, ast.Name) and called.id == "call")  # call(np.add, a, b, out)
    if len(node.args) >= first + 2 and (first or _is_numpy(called)):
        one, two = node.args[first : first + 2]
        exchanged = [*node.args[:first], two, one, *node.args[first + 2 :]]
        yield lambda: _set("arguments exchanged", node, args=exchanged)
    if isinstance(called, ast.Attribute) and called.attr == "copy" and not node.args:
        view = ast.Subscript(called.value, ast.Constant(...), ast.Load())
        yield lambda: _set("not copied", node, func=ast.Name("_same", ast.Load()), args=[view])


def _is_numpy(called: ast.expr) -> bool:
    """Return whether a function of NumPy is called, with which exchanged arguments still go."""
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "np"
    )


def _set(what: str, node: ast.AST, **fields: object) -> str:
    for name, value in fields.items():
        setattr(node, name, value)
    return what


def _dropped(place: Place) -> str:
    assert place.body is not None
    at = next(i for i, each in enumerate(place.body) if each is place.node)
    place.body[at] = ast.copy_location(ast.Pass(), place.body[at])
    return "left out"
