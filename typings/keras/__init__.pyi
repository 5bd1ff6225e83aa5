# Everything in Keras is of an unknown type to pyright. It infers that an operation may return
# another backend's tensor, and that what has a default of text takes nothing but text.
from _typeshed import Incomplete

ops: Incomplete

def __getattr__(name: str) -> Incomplete: ...
