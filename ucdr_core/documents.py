"""JSON documents that may have been written by anyone: read strictly, and compared with what they should hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

LIMIT_MB = 64


class DocumentError(ValueError):
    """What is wrong with a document."""


def read(path: Path) -> Any:
    """The content of a JSON file.  Raises DocumentError for what `parsed` refuses, a file above `LIMIT_MB` and one that
    cannot be read; it does not name the file."""
    try:
        if (size := path.stat().st_size) > LIMIT_MB << 20:
            raise DocumentError(f"it has {size:,} bytes, where {LIMIT_MB << 20:,} are allowed")
        return parsed(path.read_bytes())
    except DocumentError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a byte 0 in the name
        raise DocumentError(getattr(error, "strerror", None) or str(error)) from error


def parsed(text: str | bytes) -> Any:
    """The content of a JSON text in UTF-8.  Raises DocumentError where it is none, names an entry twice, or holds a
    number that is not finite, which JSON itself does not have."""
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_refused, parse_float=_float)
        if "\\u" in text:
            json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return content
    except DocumentError:
        raise
    except UnicodeError as error:
        raise DocumentError(f"it is not UTF-8 ({error})") from error
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise DocumentError(f"it is not JSON ({error})") from error


def check(value: Any, kind: Any, where: str = "it") -> None:
    """Raises DocumentError where the value is not of the kind, saying where in it.

    kind   a type (float takes an int too); a tuple of types, one of which fits; [kind] for a list of any length;
           {name: kind} for a mapping that has these entries, and perhaps others; {str: kind} for one of any names
    """
    if isinstance(kind, list):
        check(value, list, where)
        for place, one in enumerate(value):
            check(one, kind[0], f"{where}[{place}]")
    elif isinstance(kind, dict):
        check(value, dict, where)
        for name, of_entry in kind.items():
            if name is not str and name not in value:
                raise DocumentError(f"{where} has no {name!r}")
            for entry in value if name is str else [name]:
                shown = repr(entry)[1:-1]  # with escapes for what a terminal would obey
                check(value[entry], of_entry, shown if where == "it" else f"{where}.{shown}")
    else:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        kinds += (int,) if float in kinds else ()
        if not isinstance(value, kinds) or isinstance(value, bool) and bool not in kinds:
            names = " or ".join(NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise DocumentError(f"{where} must be {names}, not {NAMES.get(type(value), type(value).__name__)}")


NAMES = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise DocumentError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return content


def _refused(constant: str) -> None:
    raise DocumentError(f"it holds {constant}, which is no number")


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise DocumentError(f"it holds {text[:40]}, which no number holds")
    return value
