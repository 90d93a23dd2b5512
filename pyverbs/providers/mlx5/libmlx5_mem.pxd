# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

"""
The C calls on device memory and umems that pyverbs' own libmlx5.pxd lacks or declares without
nogil. mlx5_mem_features.h is generated for the rdma-core at hand: whatever this one lacks fails
there with EOPNOTSUPP.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5 as dv


cdef extern from 'mlx5_mem_features.h' nogil:
    enum: MLX5_MEM_HAVE_DM_TYPE_HEADER_MODIFY_PATTERN
    enum: MLX5_MEM_HAVE_DM_TYPE_ENCAP
    enum: MLX5_MEM_HAVE_DM_EXPORT_DMABUF_FD
    enum: MLX5_MEM_HAVE_DEVX_UMEM_EXPORT

    enum: MLX5DV_DM_TYPE_MEMIC
    enum: MLX5DV_DM_TYPE_STEERING_SW_ICM
    enum: MLX5DV_DM_TYPE_HEADER_MODIFY_SW_ICM
    enum: MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM
    enum: MLX5DV_DM_TYPE_ENCAP_SW_ICM
    enum: MLX5DV_UMEM_MASK_DMABUF
    enum: IBV_FORK_ENABLED
    # pyverbs has them as Python objects, before rdma-core 50 by another name.
    enum: IBV_ACCESS_LOCAL_WRITE
    enum: IBV_ACCESS_REMOTE_WRITE
    enum: IBV_ACCESS_REMOTE_ATOMIC
    enum: IBV_ACCESS_MW_BIND
    enum: IBV_ACCESS_ZERO_BASED

    cdef struct mlx5dv_alloc_dm_attr:
        unsigned int    type
        uint64_t        comp_mask

    cdef struct mlx5dv_export_sizes:
        uint32_t        devx_umem_attrs_size

    v.ibv_dm *mlx5dv_alloc_dm(v.ibv_context *context, v.ibv_alloc_dm_attr *dm_attr,
                              mlx5dv_alloc_dm_attr *mlx5_dm_attr)
    void *mlx5dv_dm_map_op_addr(v.ibv_dm *dm, uint8_t op)
    int ibv_free_dm(v.ibv_dm *dm)
    v.ibv_dm *ibv_import_dm(v.ibv_context *context, uint32_t dm_handle)
    void ibv_unimport_dm(v.ibv_dm *dm)
    int ibv_memcpy_to_dm(v.ibv_dm *dm, uint64_t dm_offset, const void *host_addr, size_t length)
    int ibv_memcpy_from_dm(void *host_addr, v.ibv_dm *dm, uint64_t dm_offset, size_t length)
    int ibv_dm_export_dmabuf_fd(v.ibv_dm *dm)

    dv.mlx5dv_devx_umem *mlx5dv_devx_umem_reg(v.ibv_context *context, void *addr, size_t size,
                                              uint32_t access)
    dv.mlx5dv_devx_umem *mlx5dv_devx_umem_reg_ex(v.ibv_context *context,
                                                 dv.mlx5dv_devx_umem_in *umem_in)
    int mlx5dv_devx_umem_dereg(dv.mlx5dv_devx_umem *umem)
    int mlx5dv_devx_umem_export(dv.mlx5dv_devx_umem *umem, void *data)
    dv.mlx5dv_devx_umem *mlx5dv_devx_umem_import(v.ibv_context *context, void *data)
    void mlx5dv_devx_umem_unimport(dv.mlx5dv_devx_umem *umem)
    void mlx5dv_get_export_sizes(mlx5dv_export_sizes *sizes)

    int ibv_is_fork_initialized()
