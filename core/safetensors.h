/* safetensors files and diffusers component folders, read by mmap.
 *
 *     vd_checkpoint *ck;
 *     vd_checkpoint_open("model/unet", "diffusion_pytorch_model", &ck);
 *     vd_tensor w = vd_checkpoint_take(ck, "conv_in.weight", 4, (int64_t[]){320, 4, 3, 3});
 *     ...
 *     vd_checkpoint_finish(ck);   // lists every missing, misshapen and unused tensor at once
 *     vd_checkpoint_destroy(ck);  // the views die here
 */
#ifndef VD_CORE_SAFETENSORS_H
#define VD_CORE_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/tensor.h"

typedef struct vd_checkpoint vd_checkpoint;

/* Opens DIR/STEM.safetensors, or its variants: STEM.fp16.safetensors, or the sharded
 * STEM.safetensors.index.json (also STEM.safetensors.index.fp16.json). Full precision is preferred
 * when several are there. VD_ERR_INPUT: none found (a .bin or .ckpt beside it is named, with the
 * way to convert it), truncated, header not JSON or over 100 MB, unknown dtype, offsets that
 * overlap, leave the file or disagree with the shape, a shard or an indexed tensor missing. */
vd_status vd_checkpoint_open(const char *dir, const char *stem, vd_checkpoint **out);

/* One file, whatever its name. */
vd_status vd_checkpoint_open_file(const char *path, vd_checkpoint **out);
void vd_checkpoint_destroy(vd_checkpoint *ck);

/* Path of the (first) file, for messages. */
const char *vd_checkpoint_path(const vd_checkpoint *ck);

size_t vd_checkpoint_count(const vd_checkpoint *ck);
const char *vd_checkpoint_name(const vd_checkpoint *ck, size_t index); /* sorted by name */

/* Of all its values in `dtype`. */
size_t vd_checkpoint_packed_bytes(const vd_checkpoint *ck, vd_dtype dtype);

/* VD_ERR_MEMORY, with the figures, if all its values in `dtype` cannot be had beside what is.
 * `what` names the network. */
vd_status vd_checkpoint_check_memory(const vd_checkpoint *ck, vd_dtype dtype, const char *what);

/* Looks without marking as used. False if absent. The view is read-only host memory, valid until
 * destroy; its data may be unaligned for its dtype: read it with vd_convert_values. */
bool vd_checkpoint_find(const vd_checkpoint *ck, const char *name, vd_tensor *out);

/* Takes a tensor once: checks the shape (rank 0 skips the check) and that the dtype is a float
 * type. A missing, misshapen or twice-taken name is recorded for vd_checkpoint_finish, and a tensor
 * with data NULL and the expected shape is returned. */
vd_tensor vd_checkpoint_take(vd_checkpoint *ck, const char *name, int rank, const int64_t *dim);

/* Lets go of the files' pages that were read: what is packed is not read again, all else comes back
 * by itself. vd_checkpoint_take does it now and then, vd_checkpoint_finish at the end. */
void vd_checkpoint_drop_pages(vd_checkpoint *ck);

/* Marks a tensor as known and not needed (integer position_ids, say). Absent: nothing. */
void vd_checkpoint_ignore(vd_checkpoint *ck, const char *name);

/* VD_ERR_INPUT that lists the names (all; past 8 a kind, the first 8 and the count) that are
 * missing, misshapen (found and expected shape), or were never taken. `what` names the network. */
vd_status vd_checkpoint_finish(vd_checkpoint *ck, const char *what);

/* "sha256:..." of the files' bytes: the model's identity in a clip's metadata. Of files over 64 MiB
 * the size and 4 KiB of every 64 are hashed, so that it takes no longer than loading. buf: 72. */
vd_status vd_checkpoint_hash(const vd_checkpoint *ck, char buf[72]);

/* Writes one safetensors file of `count` host tensors, beside and then renamed. `metadata` is a
 * NULL-terminated list of key, value, key, value or NULL. VD_ERR_OUTPUT; VD_ERR_USAGE for a name
 * given twice or not UTF-8, or an invalid shape. An existing file stays as it was on failure. */
vd_status vd_safetensors_write(const char *path, const char *const *names, const vd_tensor *tensors,
                               size_t count, const char *const *metadata);

#endif
