"""Reads spec files with their bases (`extends`) and overrides (`--set`), and checks them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specs.base import named
from specs.errors import Problem, SpecError, nearest
from specs.expansion import expand
from specs.experiment import AXES, SweepSpec
from specs.parsing import Place, Source, parse
from specs.schema import is_choice
from specs.validation import problems, sound_parts

LIBRARY = Path(__file__).parent / "library"


def load(spec: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read and check a spec file (or a library spec, by name), with `a.b=value` overrides.

    Raises SpecError with everything that is wrong. Trials are checked too, as `specs.expand` does.
    """
    source = read(spec, overrides)
    try:
        sweep = SweepSpec.model_validate(source.data)
        expand(sweep, source)
    except ValidationError as error:
        found = problems(error, source, source.data)
        raise SpecError([*source.wrong, *_others([*found, *_wrong_elsewhere(source, error)], source)]) from None
    except SpecError as error:
        raise SpecError([*source.wrong, *_others(error.problems, source)]) from None
    if source.wrong:
        raise SpecError(source.wrong)
    return sweep


def _others(found: Sequence[Problem], source: Source) -> list[Problem]:
    """Without what is found at places that are wrong already: the values there are not what was written."""
    there = tuple(problem.path for problem in source.wrong if problem.path)
    return [problem for problem in found if not any(_lies_in(problem.path, place) for place in there)]


def _lies_in(path: str, place: str) -> bool:
    return path == place or path.startswith((f"{place}.", f"{place}["))


def _wrong_elsewhere(source: Source, error: ValidationError) -> list[Problem]:
    """What is wrong with the axes, and with combinations of those sections that are in order."""
    sound = sound_parts(source.data, error)
    if sound is None:
        return []
    sweep, unjudged = sound
    try:
        expand(sweep, source)
    except SpecError as more:
        return [problem for problem in more.problems if problem.path.split(".")[0] not in unjudged]
    return []


def read(spec: str | Path, overrides: Sequence[str] = ()) -> Source:
    """Read a spec file with its bases and overrides, without validating it: `Source.wrong` tells what is wrong yet."""
    source = _read_file(find(spec), ())
    for override in overrides:
        try:
            _override(source, override)
        except SpecError as error:
            source.wrong += error.problems
    return source


def find(spec: str | Path, folder: Path = Path()) -> Path:
    """The file meant by a path (relative to `folder`) or by the name of a library spec."""
    path = folder / spec
    try:
        if path.exists() and not path.is_dir():
            return path
        # before folders: a folder of results may well carry the name of its spec
        named_so = LIBRARY / f"{spec}.yaml"
        if str(spec) == path.name and named_so.is_file():
            return named_so
        if path.is_dir():
            raise SpecError([Problem("is a folder; a spec is a YAML file", file=str(path))])
    except OSError as error:
        raise SpecError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from None
    library = sorted(entry.stem for entry in LIBRARY.glob("*.yaml"))
    hint = nearest(str(spec), library)
    raise SpecError([Problem(f"no such file{hint}; library specs: {', '.join(library)}", file=str(path))])


def _read_file(path: Path, above: tuple[Path, ...]) -> Source:
    shown = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError([Problem(f"cannot be read: {reason}", file=shown)]) from None
    data, places, wrong = parse(text, shown)
    if data is None:  # an empty file lacks every section, and the errors will name them
        data = {}
    if not isinstance(data, dict):
        message = "a spec is a mapping of sections, such as name:, dataset:, training:"
        raise SpecError([Problem(message, file=shown, line=1)])
    own = Source(data, places, shown, wrong)
    if "extends" not in data:
        return own
    base, at = data.pop("extends"), own.where(("extends",))
    if not isinstance(base, str):
        message = "should be the path of a spec file, or the name of a library spec"
        raise SpecError([Problem(message, "extends", *at, base, True)])
    try:
        below = find(base, path.parent)
    except SpecError as error:
        raise SpecError([Problem(error.problems[0].message, "extends", *at, base, True)]) from None
    chain = (*above, path.resolve())
    if below.resolve() in chain:
        raise SpecError([Problem("leads back to a file that extends this one", "extends", *at, base, True)])
    return _extend(_read_file(below, chain), own)


def _extend(base: Source, own: Source) -> Source:
    """The base with what a file says itself: sections are merged, all else is replaced."""

    def merge(below: dict[str, Any], above: dict[str, Any], path: Place) -> dict[str, Any]:
        merged = dict(below)
        for key, value in above.items():
            old, here = merged.get(key), (*path, key)
            if isinstance(value, dict) and is_choice(here):
                old = named(old)
                if isinstance(old, dict) and value.get("name", old.get("name")) != old.get("name"):
                    old = None  # another kind of section: the options of the old kind mean nothing to it
            if isinstance(value, dict) and isinstance(old, dict):
                merged[key] = merge(old, value, here)
            else:
                base.forget(here)
                merged[key] = value
        return merged

    data = merge(base.data, own.data, ())
    return Source(data, base.places | own.places, own.file, base.wrong + own.wrong)


def _override(source: Source, override: str) -> None:
    """Apply `a.b=value`; under sweep.grid, zip and sample all that follows is one key."""
    shown = f"--set {override}"
    name, separator, text = override.partition("=")
    steps = tuple(step.strip() for step in name.split("."))
    if not separator or not all(steps):
        raise SpecError([Problem("should be field=value, such as --set training.epochs=5", file=shown)])
    if steps == ("extends",):
        raise SpecError(
            [Problem("stands in a file; name the other spec itself, or write a file that extends it", name, shown)]
        )
    if steps[0] == "sweep" and len(steps) > 3 and steps[1] in AXES:
        steps = (*steps[:2], ".".join(steps[2:]))
    if any("[" in step for step in steps):
        whole = name.partition("[")[0]
        raise SpecError([Problem(f"lies in a list, which is set as a whole: {whole}=[…]", name, shown)])
    try:
        value, _, wrong = parse(text, shown)
        if wrong:
            raise SpecError(wrong)
    except SpecError as error:
        raise SpecError([Problem(error.problems[0].message, ".".join(steps), shown)]) from None
    _refuse_swept(source, steps, shown)
    where = source.data
    for depth, step in enumerate(steps[:-1], start=1):
        inner = where.get(step, {})
        if is_choice(steps[:depth]):
            inner = named(inner)
        if not isinstance(inner, dict):
            message = f"{'.'.join(steps[:depth])} holds a value, not a section"
            if isinstance(inner, list):
                message = f"lies in a list, which is set as a whole: {'.'.join(steps[:depth])}=[…]"
            raise SpecError([Problem(message, ".".join(steps), shown)])
        if step not in where:
            source.places[steps[:depth]] = (shown, None)
        where[step] = inner
        where = inner
    source.forget(steps)
    source.places[steps] = (shown, None)
    where[steps[-1]] = value


def _refuse_swept(source: Source, steps: tuple[str, ...], shown: str) -> None:
    """A sweep would replace the value again, in every trial."""
    axes = source.data.get("sweep")
    for axis in AXES:
        swept = axes.get(axis) if isinstance(axes, dict) else None
        for name in swept if isinstance(swept, dict) else ():
            if ".".join(steps) == name or ".".join(steps).startswith(f"{name}."):
                message = f"this field is swept; set sweep.{axis}.{name} instead"
                raise SpecError([Problem(message, ".".join(steps), shown)])
