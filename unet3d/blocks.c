#include "unet3d/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "unet3d/freeu.h"

static vd_status layer_load(const vd_loader *l, const char *path, int index,
                            const vd_block_desc *desc, vd_unet_layer *layer) {
    vd_status st;
    const int head_dim = (int)(desc->out / desc->heads);
    const vd_resnet_desc resnet = {
        .in = index == 0 ? desc->in : desc->out,
        .skip = desc->kind == VD_BLOCK_UP ? desc->skip[index] : 0,
        .out = desc->out,
        .time_width = desc->time_width,
        .groups = desc->groups,
        .eps = desc->eps,
    };
    const vd_spatial_transformer_desc attention = {
        .channels = desc->out,
        .text_width = desc->text_width,
        .heads = desc->heads,
        .head_dim = head_dim,
        .groups = desc->groups,
        .blocks = desc->transformers,
    };

    layer->has_attention = desc->has_attention[index];
    layer->has_temporal = desc->temporal;
    VD_TRY(
        vd_resnet_load(l, vd_path_join(path, "resnets.%d", index).text, &resnet, &layer->resnet));
    if (layer->has_attention)
        VD_TRY(vd_spatial_transformer_load(l, vd_path_join(path, "attentions.%d", index).text,
                                           &attention, &layer->attention));
    if (layer->has_temporal)
        VD_TRY(vd_temporal_conv_load(l, vd_path_join(path, "temp_convs.%d", index).text, desc->out,
                                     desc->groups, &layer->temp_conv));
    if (layer->has_temporal && layer->has_attention)
        VD_TRY(vd_temporal_transformer_load(l, vd_path_join(path, "temp_attentions.%d", index).text,
                                            desc->out, desc->heads, head_dim, desc->groups,
                                            &layer->temp_attention));
done:
    return st;
}

vd_status vd_unet_block_load(const vd_loader *l, const char *path, const vd_block_desc *desc,
                             vd_unet_block *block) {
    vd_status st = VD_OK;
    const bool down = desc->kind == VD_BLOCK_DOWN;
    block->kind = desc->kind;
    block->path = vd_path_join("", "%s", path);
    const char *number = strrchr(path, '.');
    block->index = number == NULL ? 0 : (int)strtol(number + 1, NULL, 10);
    block->has_sampler = desc->has_sampler;
    block->layers = calloc((size_t)desc->layer_count, sizeof *block->layers);
    if (block->layers == NULL)
        return vd_fail(VD_ERR_MEMORY, "no memory for the layers of %s", path);
    block->layer_count = desc->layer_count;

    for (int i = 0; i < desc->layer_count; i++)
        VD_TRY(layer_load(l, path, i, desc, &block->layers[i]));
    if (desc->has_sampler) {
        const vd_path sampler =
            vd_path_join(path, "%s.0.conv", down ? "downsamplers" : "upsamplers");
        VD_TRY(vd_spatial_conv_load(l, sampler.text, desc->out, desc->out, down ? 2 : 1,
                                    &block->sampler));
    }
done:
    return st;
}

void vd_unet_block_destroy(vd_backend *be, vd_unet_block *block) {
    for (int i = 0; i < block->layer_count; i++) {
        vd_unet_layer *layer = &block->layers[i];
        vd_resnet_destroy(be, &layer->resnet);
        vd_temporal_conv_destroy(be, &layer->temp_conv);
        vd_spatial_transformer_destroy(be, &layer->attention);
        vd_temporal_transformer_destroy(be, &layer->temp_attention);
    }
    vd_conv_layer_destroy(be, &block->sampler.conv);
    free(block->layers);
    *block = (vd_unet_block){0};
}

vd_status vd_skip_push(vd_skip_stack *skips, const vd_tensor *h) {
    if (skips->count >= skips->room)
        return vd_fail(VD_ERR_BACKEND, "more than %d skip connections", skips->room);
    skips->items[skips->count++] = *h;
    return VD_OK;
}

void vd_skip_release(vd_exec *x, const vd_skip_stack *skips, vd_tensor *h) {
    if (skips->count > 0 && skips->items[skips->count - 1].data == h->data)
        h->data = NULL;
    else
        vd_exec_free(x, h);
}

static vd_status layer_forward(const vd_unet_pass *pass, vd_tensor *h, vd_skip_stack *skips,
                               const vd_unet_block *block, int index) {
    vd_status st;
    const char *path = block->path.text;
    const vd_unet_layer *layer = &block->layers[index];
    const bool up = block->kind == VD_BLOCK_UP;
    vd_tensor skip = {0};
    vd_tensor out = {0};

    if (up) {
        if (skips->count == 0)
            return vd_fail(VD_ERR_BACKEND, "%s: no skip connection is left", path);
        skip = skips->items[--skips->count];
    }
    st = up ? vd_freeu_apply(pass->x, &vd_unet_method(pass)->freeu, block->index, h, &skip) : VD_OK;
    if (st == VD_OK)
        st = vd_resnet_forward(pass, &out, h, up ? &skip : NULL, &layer->resnet);
    vd_exec_free(pass->x, &skip);
    VD_TRY(st);
    vd_skip_release(pass->x, skips, h);
    *h = out;
    VD_TRY(vd_unet_tap(pass, h, path, "resnets.%d", index));
    if (layer->has_temporal) {
        VD_TRY(vd_temporal_conv_forward(pass->x, h, &layer->temp_conv, pass->frames));
        VD_TRY(vd_unet_tap(pass, h, path, "temp_convs.%d", index));
    }
    if (layer->has_attention) {
        st = vd_spatial_transformer_forward(pass, h, &layer->attention);
        if (st == VD_ERR_INPUT)
            vd_fail_in(st, "%s.attentions.%d", path, index);
        VD_TRY(st);
        VD_TRY(vd_unet_tap(pass, h, path, "attentions.%d", index));
    }
    if (layer->has_temporal && layer->has_attention) {
        VD_TRY(vd_temporal_transformer_forward(pass->x, h, &layer->temp_attention, pass->frames));
        VD_TRY(vd_unet_tap(pass, h, path, "temp_attentions.%d", index));
    }
    if (block->kind == VD_BLOCK_DOWN)
        VD_TRY(vd_skip_push(skips, h));
done:
    return st;
}

static vd_status downsample(const vd_unet_pass *pass, vd_tensor *h, vd_skip_stack *skips,
                            const vd_unet_block *block) {
    vd_status st;
    vd_tensor out = {0};
    VD_TRY(vd_spatial_conv_alloc(pass, &out, h, &block->sampler));
    VD_TRY(vd_spatial_conv_forward(pass, &out, h, &block->sampler, NULL, NULL));
    VD_TRY(vd_unet_tap(pass, &out, block->path.text, "downsamplers.0"));
    VD_TRY(vd_skip_push(skips, &out));
    *h = out; /* which was a skip too */
    return VD_OK;
done:
    vd_exec_free(pass->x, &out);
    return st;
}

static vd_status upsample(const vd_unet_pass *pass, vd_tensor *h, const vd_skip_stack *skips,
                          const vd_unet_block *block, bool fit) {
    vd_status st;
    int64_t height = 2 * h->dim[1];
    int64_t width = 2 * h->dim[2];
    vd_tensor large = {0};
    vd_tensor out = {0};
    if (fit && skips->count > 0) {
        height = skips->items[skips->count - 1].dim[1];
        width = skips->items[skips->count - 1].dim[2];
    }
    VD_TRY(VD_ALLOC(pass->x, h->dtype, &large, h->dim[0], height, width, h->dim[3]));
    VD_TRY(vd_resize_nearest(pass->x, &large, h));
    vd_exec_free(pass->x, h);
    VD_TRY(vd_spatial_conv_alloc(pass, &out, &large, &block->sampler));
    VD_TRY(vd_spatial_conv_forward(pass, &out, &large, &block->sampler, NULL, NULL));
    VD_TRY(vd_unet_tap(pass, &out, block->path.text, "upsamplers.0"));
    *h = out;
    out.data = NULL;
done:
    vd_exec_free(pass->x, &large);
    vd_exec_free(pass->x, &out);
    return st;
}

vd_status vd_unet_block_forward(const vd_unet_pass *pass, vd_tensor *h, vd_skip_stack *skips,
                                const vd_unet_block *block, bool fit) {
    vd_status st;
    for (int i = 0; i < block->layer_count; i++)
        VD_TRY(layer_forward(pass, h, skips, block, i));
    if (block->has_sampler && block->kind == VD_BLOCK_DOWN)
        VD_TRY(downsample(pass, h, skips, block));
    else if (block->has_sampler)
        VD_TRY(upsample(pass, h, skips, block, fit));
    VD_TRY(vd_unet_tap(pass, h, "", "%s", block->path.text));
done:
    return st;
}
