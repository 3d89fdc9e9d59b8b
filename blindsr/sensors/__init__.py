"""Kernels from what a data sheet says: optics formulas, specification files, sensors by name; without torch."""

from blindsr.sensors.design import DEFAULT_MODEL, Designed, KernelModel, design, kernel_from_transfer
from blindsr.sensors.finding import find_sensor, shipped_sensor, shipped_sensors
from blindsr.sensors.specification import Sensor, parse_sensor
from blindsr.sensors.system import Curve, System

__all__ = [
    "DEFAULT_MODEL",
    "Curve",
    "Designed",
    "KernelModel",
    "Sensor",
    "System",
    "design",
    "find_sensor",
    "kernel_from_transfer",
    "parse_sensor",
    "shipped_sensor",
    "shipped_sensors",
]
