"""Many images in one run: resumable, in parallel, on one machine or on a Dask cluster."""
