/* Attention of bf16 on AMX tiles: the same blocks, transposition and online softmax as in
 * attention.c, with products summed by vd_amx_block. */
#ifndef VD_BACKEND_CPU_ATTENTION_TILED_H
#define VD_BACKEND_CPU_ATTENTION_TILED_H

#include "backend/cpu/cpu.h"

/* False where AMX is not there, for a causal mask, and for other dtypes. */
bool vd_cpu_attention_tiled_takes(const vd_exec *x, const vd_attention_desc *d);

vd_status vd_cpu_attention_tiled(vd_exec *x, void *out, const void *q, const void *k, const void *v,
                                 const vd_attention_desc *d);

#endif
