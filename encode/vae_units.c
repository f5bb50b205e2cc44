#include "encode/vae_impl.h"

int vd_vae_decoder_units(const vd_vae *vae, vd_vae_unit unit[VD_VAE_MAX_UNITS]) {
    const vd_vae_half *half = &vae->decoder;
    int count = 0;
    unit[count++] = (vd_vae_unit){.kind = VD_VAE_CONV,
                                  .in = half->conv_in.in,
                                  .out = half->conv_in.out,
                                  .conv = &half->conv_in};
    for (int i = 0; i < 2; i++)
        unit[count++] = (vd_vae_unit){.kind = VD_VAE_RESNET,
                                      .in = half->mid[i].in,
                                      .out = half->mid[i].out,
                                      .resnet = &half->mid[i]};
    for (int i = 0; i < vae->config.levels; i++) {
        const vd_vae_block *b = &half->block[i];
        for (int j = 0; j < b->resnets; j++)
            unit[count++] = (vd_vae_unit){.kind = VD_VAE_RESNET,
                                          .in = b->resnet[j].in,
                                          .out = b->resnet[j].out,
                                          .resnet = &b->resnet[j]};
        if (b->sampler.w)
            unit[count++] = (vd_vae_unit){.kind = VD_VAE_UPSAMPLE,
                                          .in = b->sampler.in,
                                          .out = b->sampler.out,
                                          .conv = &b->sampler};
    }
    unit[count++] = (vd_vae_unit){.kind = VD_VAE_OUTPUT,
                                  .in = half->conv_out.in,
                                  .out = half->conv_out.out,
                                  .conv = &half->conv_out,
                                  .norm = &half->norm_out};
    return count;
}

const vd_norm_layer *vd_vae_unit_norm(const vd_vae_unit *unit) {
    return unit->kind == VD_VAE_RESNET ? &unit->resnet->norm1 : unit->norm;
}
