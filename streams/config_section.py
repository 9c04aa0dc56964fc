"""What every table of ``tenfold.toml`` has in common: frozen, and no key that is not known."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def one_of(*values: str) -> str:
    """For a field's description."""
    return "one of " + ", ".join(f'"{value}"' for value in values)
