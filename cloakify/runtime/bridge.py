"""The public name of :mod:`cloakify.runtime.torch_module`."""

from cloakify.runtime.torch_module import OnnxModule

__all__ = ["OnnxModule"]
