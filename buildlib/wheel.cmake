# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
#
# What a wheel has besides the modules, when scikit-build-core makes PyPI's pyverbs with the hook:
# stubs in a package of their own, as PEP 561 wants them for a package without py.typed, and the
# command mlx5dv-dm-caps. pyproject.toml is upstream's, so the command is a script, not an entry
# point. pip lists both in the wheel's RECORD and takes them out again.

set(WHEEL "${MLX5_MEM_BINARY_DIR}/wheel")
set(STUBS "${SKBUILD_PLATLIB_DIR}/pyverbs-stubs")
# "partial": for what is not here, look into pyverbs itself.
file(WRITE "${WHEEL}/py.typed" "partial\n")
# jedi takes a directory with this file for stubs, and no other.
file(WRITE "${WHEEL}/__init__.pyi" "")
# pip puts the interpreter's path in the place of this first line.
file(WRITE "${WHEEL}/mlx5dv-dm-caps" "#!python
import sys
from pyverbs.providers.mlx5.mlx5dv_dm_caps import main
sys.exit(main())
")
install(FILES "${WHEEL}/py.typed" DESTINATION "${STUBS}" COMPONENT pyverbs_mlx5_wheel)
foreach(PACKAGE "" /providers /providers/mlx5)
  install(FILES "${WHEEL}/__init__.pyi" DESTINATION "${STUBS}${PACKAGE}"
    COMPONENT pyverbs_mlx5_wheel)
endforeach()
# Those of modules in Python are as they are: an editor finds the docstrings in the module.
install(FILES ${MLX5_MEM_STUBS}
  "${MLX5_MEM_SOURCE_DIR}/pyverbs/providers/mlx5/mlx5_trial.pyi"
  "${MLX5_MEM_SOURCE_DIR}/pyverbs/providers/mlx5/mlx5dv_dm_caps.pyi"
  DESTINATION "${STUBS}/providers/mlx5" COMPONENT pyverbs_mlx5_wheel)
install(PROGRAMS "${WHEEL}/mlx5dv-dm-caps" DESTINATION "${SKBUILD_SCRIPTS_DIR}"
  COMPONENT pyverbs_mlx5_wheel)
