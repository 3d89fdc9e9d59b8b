"""Many photographs: found, planned, run on processes or machines, noted as they are finished, and resumed."""
