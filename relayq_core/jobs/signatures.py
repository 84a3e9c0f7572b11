"""Signatures whose annotations may name things that are not defined yet, or only for type checkers."""

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

    def list_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """Return the parameters. Since 3.14 annotations are evaluated when read: not all may be defined then."""
        return list(inspect.signature(function, annotation_format=Format.FORWARDREF).parameters.values())

else:

    def list_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
        """Return the parameters. Before 3.14 annotations are values, or texts, which are not evaluated here."""
        return list(inspect.signature(function).parameters.values())


def get_text(annotation: Any) -> str | None:
    """Return the text of an annotation that has no value yet, or None for one that has a value."""
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if not isinstance(annotation, str):
        return None
    unquoted = annotation.strip("'\"")
    return annotation if "'" in unquoted or '"' in unquoted else unquoted


def get_globals(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the global names of the module in which a function is defined."""
    names: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return names


def is_context(function: Callable[..., Any], annotation: Any) -> bool:
    """Return whether an annotation of the function is JobContext: optional, annotated or as text, too."""
    text = get_text(annotation)
    if text is not None:
        return _is_context_text(function, text)
    annotation = getattr(annotation, "__value__", annotation)  # of a `type X = ...`
    if get_origin(annotation) is Annotated:
        return is_context(function, get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return len(members) == 1 and is_context(function, members[0])
    return annotation is JobContext


def has_context(function: Callable[..., Any], annotation: Any) -> bool:
    """Return whether an annotation of the function holds JobContext anywhere: in a union, in a list."""
    text = get_text(annotation)
    if text is not None:
        tree = _parse_annotation(text)
        return tree is not None and any(_is_context_node(function, node) for node in ast.walk(tree))
    if is_context(function, annotation):
        return True
    return any(has_context(function, part) for part in get_args(annotation) if not isinstance(part, str))


def _is_context_text(function: Callable[..., Any], text: str) -> bool:
    tree = _parse_annotation(text)
    return tree is not None and _is_context_node(function, tree)


def _parse_annotation(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _is_context_node(function: Callable[..., Any], node: ast.AST) -> bool:
    """Return whether a parsed annotation is JobContext, which may be imported for type checkers only."""
    match node:
        case ast.Constant(value=str() as text):
            return _is_context_text(function, text)
        case ast.BinOp(op=ast.BitOr()):
            members = [member for member in _list_members(node) if not _is_none(member)]
            return len(members) == 1 and _is_context_node(function, members[0])
        case ast.Subscript(value=ast.Name() | ast.Attribute() as generic, slice=ast.expr() as inside):
            return _is_context_subscript(function, ast.unparse(generic).rpartition(".")[2], inside)
        case ast.Name() | ast.Attribute():
            return _is_context_name(function, ast.unparse(node))
    return False


def _list_members(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _list_members(node.left)
        yield from _list_members(node.right)
    else:
        yield node


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_context_subscript(function: Callable[..., Any], generic: str, inside: ast.expr) -> bool:
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if generic == "Annotated":
        return _is_context_node(function, parts[0])
    if generic not in ("Optional", "Union"):
        return False
    members = [member for member in parts if not _is_none(member)]
    return len(members) == 1 and _is_context_node(function, members[0])


def _is_context_name(function: Callable[..., Any], dotted: str) -> bool:
    first, *others = dotted.split(".")
    value = get_globals(function).get(first)
    for name in others:
        value = getattr(value, name, None)
    # imported under TYPE_CHECKING, or by its module: then the name is all there is
    return dotted.rpartition(".")[2] == JobContext.__name__ if value is None else is_context(function, value)
