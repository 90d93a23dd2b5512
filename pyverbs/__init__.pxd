# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
# Tells Cython in which package the modules are.
