"""A run's report for people: `plots.py` draws, `page.py` puts one HTML file together from the run's folder."""
