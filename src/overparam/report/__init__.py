"""The report: one self-contained HTML page that says what a job found, with figures and sources."""
