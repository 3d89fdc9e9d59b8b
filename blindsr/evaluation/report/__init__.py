"""Reports: one self-contained HTML file that compares images, kernels and metrics, and needs no network."""

from blindsr.evaluation.report.comparison import report_for_photo, report_path
from blindsr.evaluation.report.overview import write_ablation_report
from blindsr.evaluation.report.pictures import check_plot, write_plots

__all__ = ["check_plot", "report_for_photo", "report_path", "write_ablation_report", "write_plots"]
