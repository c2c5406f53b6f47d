"""Tables that can be read in a terminal of 80 columns."""

from typing import TYPE_CHECKING

from service.commands.options import console

if TYPE_CHECKING:
    from rich.table import Column, Table

_UNLIMITED = 10_000  # characters


def make_table(*columns: "Column | str", title: str | None = None) -> "Table":
    """A table without frames, which would take a quarter of a narrow terminal."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    return table


def id_column(name: str) -> "Column":
    """A column that keeps its values in one piece, because other commands take them."""
    from rich.table import Column

    return Column(name, no_wrap=True)


def number_column(name: str) -> "Column":
    from rich.table import Column

    return Column(name, justify="right", no_wrap=True)


def text_column(name: str) -> "Column":
    """A column that wraps its values between words."""
    from rich.table import Column

    return Column(name, min_width=20, overflow="fold")


def print_table(table: "Table") -> None:
    """Prints a table in the width of the terminal. Where ids and numbers do not fit, lines are longer than that."""
    from rich.measure import Measurement
    from rich.text import Text

    for column in table.columns:
        if column.no_wrap:  # rich alone would cut a value at the first space that it needs
            lines = [line for cell in (column.header, *column.cells) for line in str(cell).split("\n")]
            column.min_width = max(Text.from_markup(line).cell_len for line in lines)
    output = console()
    unlimited = output.options.update(max_width=_UNLIMITED)
    output.width = max(output.width, Measurement.get(output, unlimited, table).minimum)
    output.print(table, crop=False)  # with several text columns rich may need a little more than it has found
