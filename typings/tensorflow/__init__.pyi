# Everything in TensorFlow is of an unknown type to pyright. The stubs that it brings along take
# every length of a shape for one that may be None, and reject decorators and arguments that work.
from _typeshed import Incomplete

def __getattr__(name: str) -> Incomplete: ...
