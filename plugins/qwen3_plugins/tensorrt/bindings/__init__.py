"""NVIDIA's Python bindings, TensorRT's and CUDA's: the one home of whatever compiler, runtime and plugins ask of them.

Importing this package imports none of them.
"""
