# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Programs that nobody here wrote, of Debian's packages, at work on the emulated card.

`bash buildlib/quickstart.sh foreign` boots a guest for each kind of port, runs them there and
prints a table. Each program is a function with `@program` in the file of its kind; it checks the
data that went over the card and returns a figure.
"""
