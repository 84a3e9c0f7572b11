"""Signatures whose annotations may name what is not there yet, or is there for type checkers only."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Union, get_args, get_origin

from relayq_core.jobs.context import JobContext

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """The parameters. From 3.14 on annotations are evaluated when asked for, and one cannot know when all are."""
        return list(inspect.signature(function, annotation_format=Format.FORWARDREF).parameters.values())

else:

    def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """The parameters. Before 3.14 annotations are values, or texts that nobody evaluates here."""
        return list(inspect.signature(function).parameters.values())


def text_of(annotation: Any) -> str | None:
    """How an annotation is written that has no value yet; None for one that has."""
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if not isinstance(annotation, str):
        return None
    unquoted = annotation.strip("'\"")
    return annotation if "'" in unquoted or '"' in unquoted else unquoted


def globals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of the module in which a function is defined."""
    names: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return names


def is_context(function: Callable[..., Any], annotation: Any) -> bool:
    """Whether an annotation of the function means JobContext, which may be optional, annotated or a text."""
    text = text_of(annotation)
    if text is not None:
        return _text_is_context(function, text)
    annotation = getattr(annotation, "__value__", annotation)  # of a `type X = ...`
    if get_origin(annotation) is Annotated:
        return is_context(function, get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return len(members) == 1 and is_context(function, members[0])
    return annotation is JobContext


def mentions_context(function: Callable[..., Any], annotation: Any) -> bool:
    """Whether JobContext stands anywhere in an annotation of the function: as a member of a union, in a list."""
    text = text_of(annotation)
    if text is not None:
        tree = _parsed(text)
        return tree is not None and any(_node_is_context(function, node) for node in ast.walk(tree))
    if is_context(function, annotation):
        return True
    return any(mentions_context(function, part) for part in get_args(annotation) if not isinstance(part, str))


def _text_is_context(function: Callable[..., Any], text: str) -> bool:
    tree = _parsed(text)
    return tree is not None and _node_is_context(function, tree)


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _node_is_context(function: Callable[..., Any], node: ast.AST) -> bool:
    """The same for an annotation that is a text. What it names may be imported by type checkers only."""
    match node:
        case ast.Constant(value=str() as text):
            return _text_is_context(function, text)
        case ast.BinOp(op=ast.BitOr()):
            members = [member for member in _members(node) if not _is_none(member)]
            return len(members) == 1 and _node_is_context(function, members[0])
        case ast.Subscript(value=ast.Name() | ast.Attribute() as generic, slice=ast.expr() as inside):
            return _subscript_is_context(function, ast.unparse(generic).rpartition(".")[2], inside)
        case ast.Name() | ast.Attribute():
            return _name_is_context(function, ast.unparse(node))
    return False


def _members(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _members(node.left)
        yield from _members(node.right)
    else:
        yield node


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _subscript_is_context(function: Callable[..., Any], generic: str, inside: ast.expr) -> bool:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if generic == "Annotated":
        return _node_is_context(function, parts[0])
    if generic not in ("Optional", "Union"):
        return False
    members = [member for member in parts if not _is_none(member)]
    return len(members) == 1 and _node_is_context(function, members[0])


def _name_is_context(function: Callable[..., Any], dotted: str) -> bool:
    first, *others = dotted.split(".")
    found = globals_of(function).get(first)
    for name in others:
        found = getattr(found, name, None)
    # imported under TYPE_CHECKING, or by its module: then the name is all there is
    return dotted.rpartition(".")[2] == JobContext.__name__ if found is None else is_context(function, found)
