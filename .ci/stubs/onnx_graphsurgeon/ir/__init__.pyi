from . import tensor as tensor
