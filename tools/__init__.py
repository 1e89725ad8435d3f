"""Programs for developers: pages and tables generated from the code, set-up scripts."""
