"""Which code made a number: a digest of what the code means.

Comments, docstrings, layout and the names of local variables do not count, so that tidying up renames nothing and makes
no evidence old.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ucdr_core import paths
from ucdr_core.methods import METHODS

# Every file of these rooms decides what a training is and how it is scored; of the methods, those that all others stand
# on.
ROOMS = ("data", "retrieval", "training")
SHARED = (
    "device.py",
    "options.py",
    "documents.py",
    "methods/base.py",
    "methods/losses.py",
    "methods/backbones.py",
    "methods/semantics.py",
    "methods/wordnet.py",
)
# Of those rooms, files that no number depends on.
NO_NUMBER = {
    "data/download.py",
    "training/plan.py",
    "training/parallel.py",
    "retrieval/index.py",
    "retrieval/ranking.py",
}


@cache
def code_digest(*methods: str) -> str:
    """16 hex digits over the meaning of the library files that a result of these methods depends on."""
    package = paths.PACKAGE
    files = {package / name for name in SHARED}
    for room in ROOMS:
        files |= {
            path for path in (package / room).rglob("*.py") if path.relative_to(package).as_posix() not in NO_NUMBER
        }
    files -= set((package / "data" / "emoji_domains").rglob("*.py"))  # the builder: its product has a fingerprint
    files |= _imported([parent.__module__ for method in methods for parent in METHODS[method].__mro__])
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + meaning(path.read_text()).encode())
    return digest.hexdigest()[:16]


def _imported(modules: list[str]) -> set[Path]:
    """The files of those of these modules that are in the room of methods, and of what they import there."""
    files: set[Path] = set()
    todo = [name for name in modules if name.startswith("ucdr_core.methods.")]
    while todo:
        path = Path(str(sys.modules[todo.pop()].__file__))
        if path not in files:
            files.add(path)
            tree = ast.parse(path.read_text())
            imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
            todo += [name for name in imported if name.startswith("ucdr_core.methods.")]
    return files


def meaning(source: str) -> str:
    """The source without comments, docstrings and layout, local variables numbered in the order in which they are
    bound."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(_Numbered().visit(tree))


class _Numbered(ast.NodeTransformer):
    """Local variables of functions by number.  Parameters keep their names: a caller may use them."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, str]] = []
        self.count = 0

    def _function(self, node: Any) -> Any:
        declared = {
            name for part in ast.walk(node) if isinstance(part, (ast.Global, ast.Nonlocal)) for name in part.names
        }
        arguments = node.args
        parameters = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        parameters |= {one.arg for one in (arguments.vararg, arguments.kwarg) if one}
        scope: dict[str, str] = {name: name for name in parameters}
        body = node.body if isinstance(node.body, list) else [node.body]
        for name in _bound(body):
            if name not in declared and name not in scope:
                scope[name] = f"local_{self.count}"
                self.count += 1
        # What is evaluated outside of the function: defaults, decorators, annotations.
        for part in (*getattr(node, "decorator_list", ()), *arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(part)
        self.scopes.append(scope)
        visited = [self.visit(statement) for statement in body]
        node.body = visited if isinstance(node.body, list) else visited[0]
        self.scopes.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_Name(self, node: ast.Name) -> ast.Name:
        for scope in reversed(self.scopes):
            if node.id in scope:
                node.id = scope[node.id]
                break
        return node


def _bound(statements: list[ast.AST]) -> list[str]:
    """Names that these statements bind, in order; inner functions bind their own."""
    names: dict[str, None] = {}

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            return
        for child in ast.iter_child_nodes(node):
            look(child)

    for statement in statements:
        look(statement)
    return list(names)
