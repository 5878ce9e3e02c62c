"""How commands are registered and how their help looks: option groups, examples, panels, default commands."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, TypeVar, get_type_hints

import typer
from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True)
class _LateConversion(RuntimeParam):
    """Typer's own conversion of a value, prepared once there is a value: it loads Pydantic, which takes longer than parsing."""

    descriptor: TypeDescriptor

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        return build_runtime_param(self.descriptor)._coerce_value(value, param=param, ctx=ctx)


def _adapted(params: list[Any]) -> list[Any]:
    """Parameters that convert late, and whose help shows no `<bool>` behind flags and no `<path>` behind arguments.

    Such a type looks as if something had to be typed there.
    """
    for param in params:
        if isinstance(param, TyperOption | TyperArgument) and param._runtime_param is None:
            descriptor = param.type_descriptor
            param._runtime_param = _LateConversion(descriptor.parameter_info, descriptor.annotation, descriptor)
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
        elif isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
    return params


class HelpCommand(TyperCommand):
    """A command that converts late and whose help shows no Python types."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _adapted(super().get_params(ctx))


class HelpGroup(TyperGroup):
    """A group that converts late and whose help shows no Python types."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _adapted(super().get_params(ctx))


class DefaultCommandGroup(HelpGroup):
    """A group that may be used without the name of a command: `memlora bench FILE` is `memlora bench run FILE`.

    A flag can name the command as well, as in `memlora train --search`; the command then declares the flag and ignores it.
    Commands find the command line as the user typed it in `ctx.parent.obj`; see `command_line`.
    """

    default: ClassVar[str]
    flags: ClassVar[dict[str, str]] = {}  # flag -> command; the first flag that was given decides

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = shlex.join([*ctx.command_path.split(), *args])
        if not args or args[0] not in (*self.commands, *self.get_help_option_names(ctx)):
            given = {arg.partition("=")[0] for arg in args}
            name = next((self.flags[flag] for flag in self.flags if flag in given), self.default)
            args = [name, *args]
        return super().parse_args(ctx, args)


def command_line(ctx: typer.Context) -> str:
    """The command as it was typed, for cards and results; of a command in a `DefaultCommandGroup`."""
    return str(ctx.parent.obj) if ctx.parent else ""


def examples(*lines: str) -> str:
    """The text below a command's help; each line is one example."""
    return "\n".join(["[bold]Examples[/bold]" if len(lines) > 1 else "[bold]Example[/bold]", *map(_escaped, lines)])


def _escaped(line: str) -> str:
    return line.replace("[", r"\[")


def command(app: typer.Typer, name: str, *lines: str, panel: str | None = None) -> Callable[[F], F]:
    """Register a function as a command.

    Args:
        lines: examples for its help.
        panel: the heading under which the parent's help lists it.
    """

    def register(function: F) -> F:
        app.command(name, cls=HelpCommand, epilog=examples(*lines), rich_help_panel=panel)(with_option_groups(function))
        return function

    return register


def with_option_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a dataclass type by one option for each field of the dataclass.

    Typer reads options from a function's signature, so several commands could share options only by repeating them. Here
    they share a dataclass whose fields are annotated as Typer options.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []

    def add(name: str, annotation: Any, default: Any) -> None:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))

    for parameter in inspect.signature(function).parameters.values():
        annotation = hints[parameter.name]
        if not is_dataclass(annotation):
            add(parameter.name, annotation, parameter.default)
            continue
        groups[parameter.name] = annotation
        field_hints = get_type_hints(annotation, include_extras=True)
        for field in fields(annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            add(field.name, field_hints[field.name], default)

    def call(**values: Any) -> None:
        built = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        function(**built, **values)

    call.__name__, call.__module__ = function.__name__, function.__module__
    call.__doc__ = "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
