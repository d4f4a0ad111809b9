"""The stations of the tour, one file each, found by ``veil.report.station.stations``."""
