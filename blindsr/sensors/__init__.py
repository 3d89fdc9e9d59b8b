"""Kernels from data sheets: optics formulas, specification files, sensors by name, measured PSFs; without torch."""

from blindsr.sensors.catalogue import (
    Sensor,
    find_sensor,
    kernel_from_sensor,
    parse_sensor,
    shipped_sensor,
    shipped_sensors,
)
from blindsr.sensors.system import System, SystemKernel, design, kernel_from_transfer
from blindsr.sensors.transfer import Curve

__all__ = [
    "Curve",
    "Sensor",
    "System",
    "SystemKernel",
    "design",
    "find_sensor",
    "kernel_from_sensor",
    "kernel_from_transfer",
    "parse_sensor",
    "shipped_sensor",
    "shipped_sensors",
]
