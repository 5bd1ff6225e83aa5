# Everything in Pandas is of an unknown type to pyright. It infers that a column may be a table, and
# that what has rows may be a column.
from _typeshed import Incomplete

def __getattr__(name: str) -> Incomplete: ...
