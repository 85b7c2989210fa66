/* The convolution of a region: weights packed once a call, the input under a run of pixels packed
 * as the sums read it, and sums of a block of channels by a run of pixels in registers. */
#include "gen/c/region.h"

static const char letters[SG_SPATIAL_MAX] = {'D', 'H', 'W'};
static const char small[SG_SPATIAL_MAX] = {'d', 'h', 'w'};

/* Whether the convolution has a dimension: 0: D, 1: H, 2: W. */
static bool has(const sg_c_region *region, int axis) {
    return region->problem->convolution.input.domain >> (SG_ROLE_D + axis) & 1U;
}

static const sg_c_tensor *tensor_of(const sg_c_region *region, int view) {
    return &region->tensors[region->views[view].tensor];
}

void sg_c_write_convolution_constants(const sg_c_region *region, sg_text *text) {
    const sg_convolution *convolution = &region->problem->convolution;
    sg_text_add(text,
                "    GROUPS@ = %lld,\n"
                "    GROUP_IN@ = %lld, /* channels of the input in a group */\n"
                "    GROUP_OUT@ = CHANNELS@ / GROUPS@,\n",
                (long long)convolution->groups,
                (long long)(convolution->in_channels / convolution->groups));
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        char c = letters[i];
        if (has(region, i))
            sg_text_add(text,
                        "    KERNEL_%c@ = %lld, STRIDE_%c@ = %lld, PADDING_%c@ = %lld, "
                        "DILATION_%c@ = %lld,\n",
                        c, (long long)convolution->kernel[i], c, (long long)convolution->stride[i],
                        c, (long long)convolution->padding[i], c,
                        (long long)convolution->dilation[i]);
    }
    sg_text_add(text, "    ROWS@ = GROUP_IN@%s%s, /* of the input, under a run of pixels */\n",
                has(region, 0) ? " * KERNEL_D@" : "", has(region, 1) ? " * KERNEL_H@" : "");
    sg_text_add(text,
                "    TAP@ = %s, /* from tap to tap in such a row, as it is packed */\n"
                "    ROW@ = RUN@ + (KERNEL_W@ - 1) * TAP@,\n"
                "    BLOCK@ = GROUP_OUT@ < BLOCK_MAX@ ? GROUP_OUT@ : BLOCK_MAX@,\n"
                "    BLOCKS@ = (GROUP_OUT@ + BLOCK@ - 1) / BLOCK@,\n"
                "    PRODUCTS@ = ROWS@ * KERNEL_W@, /* in one element of the output */\n"
                "    SPAN@ = 64, /* of them in one sum */\n",
                convolution->stride[2] == 1 ? "DILATION_W@" : "RUN@");
}

void sg_c_write_convolution_members(const sg_c_region *region, sg_text *text) {
    sg_text_add(text, "    real weights[GROUPS@ * BLOCKS@ * PRODUCTS@ * BLOCK@];\n"
                      "    real rows[GROUPS@ * ROWS@ * ROW@]; /* of the input */\n"
                      "    int taps[PRODUCTS@]; /* where each product's run begins in them */\n");
    if (region->bias_view >= 0)
        sg_text_add(text, "    real bias[CHANNELS@];\n");
}

/* " * by.c" and so on: the loops over the kernel, and the row that they count. */
static void write_kernel_loops(const sg_c_region *region, const char *indent, sg_text *text) {
    for (int i = 0; i < 2; i++) {
        if (has(region, i))
            sg_text_add(text, "%sfor (int k%c = 0; k%c < KERNEL_%c@; k%c++)\n", indent, small[i],
                        small[i], letters[i], small[i]);
    }
}

static const char *row_index(const sg_c_region *region) {
    return has(region, 0)   ? "((i * KERNEL_D@ + kd) * KERNEL_H@ + kh)"
           : has(region, 1) ? "(i * KERNEL_H@ + kh)"
                            : "i";
}

static void write_pack_weights(const sg_c_region *region, sg_text *text) {
    const sg_c_tensor *weight = tensor_of(region, region->weight_view);
    const char *by = region->views[region->weight_view].name;
    sg_text_add(text,
                "/* The weights, a block's channels side by side; zeros fill the last block. */\n"
                "static void pack_weights@(const struct arguments@ *a, struct tile@ *t) {\n"
                "    for (int g = 0; g < GROUPS@; g++)\n"
                "    for (int o = 0; o < BLOCKS@ * BLOCK@; o++)\n"
                "    for (int i = 0; i < GROUP_IN@; i++)\n");
    write_kernel_loops(region, "    ", text);
    sg_text_add(text,
                "    for (int kw = 0; kw < KERNEL_W@; kw++) {\n"
                "        const int64_t from = (g * GROUP_OUT@ + (int64_t)o) * a->%s.n + i * "
                "a->%s.c",
                by, by);
    for (int i = 0; i < SG_SPATIAL_MAX; i++) {
        if (has(region, i))
            sg_text_add(text, " +\n                             k%c * a->%s.%c", small[i], by,
                        small[i]);
    }
    sg_text_add(text,
                ";\n        const int product = %s * KERNEL_W@ + kw;\n"
                "        t->weights[((g * BLOCKS@ + o / BLOCK@) * PRODUCTS@ + product) * BLOCK@ + "
                "o %% BLOCK@] =\n"
                "            o < GROUP_OUT@ ? load_%s(a->%s + from) : 0;\n"
                "        t->taps[product] = %s * ROW@ + kw * TAP@;\n    }\n",
                row_index(region), sg_dtype_name(weight->dtype), weight->name, row_index(region));
    if (region->bias_view >= 0) {
        const sg_c_tensor *bias = tensor_of(region, region->bias_view);
        sg_text_add(text,
                    "    for (int c = 0; c < CHANNELS@; c++)\n"
                    "        t->bias[c] = load_%s(a->%s + c * a->%s.c);\n",
                    sg_dtype_name(bias->dtype), bias->name, region->views[region->bias_view].name);
    }
    sg_text_add(text, "}\n\n");
}

static void write_pack_input(const sg_c_region *region, sg_text *text) {
    const sg_c_tensor *input = tensor_of(region, region->input_view);
    const char *by = region->views[region->input_view].name;
    bool steps = region->problem->convolution.stride[2] != 1;
    sg_text_add(text,
                "/* The input under a run of pixels, with zeros for padding. */\n"
                "static void pack_input@(const struct arguments@ *a, struct tile@ *t, const place "
                "*at) {\n"
                "    const int64_t first = at->w * STRIDE_W@ - PADDING_W@;\n"
                "    for (int i = 0; i < GROUPS@ * GROUP_IN@; i++)\n");
    write_kernel_loops(region, "    ", text);
    sg_text_add(text,
                "    {\n"
                "        real *row = t->rows + %s * ROW@;\n"
                "        const %s *from = a->%s + at->n * a->%s.n + i * a->%s.c;\n",
                row_index(region), sg_c_type(input->dtype), input->name, by, by);
    for (int i = 0; i < 2; i++) {
        char c = small[i], C = letters[i];
        if (has(region, i))
            sg_text_add(text,
                        "        const int64_t %c = at->%c * STRIDE_%c@ - PADDING_%c@ + k%c * "
                        "DILATION_%c@;\n",
                        c, c, C, C, c, C);
    }
    if (has(region, 1)) {
        sg_text_add(text, "        if (%sh < 0 || h >= a->in_h) {\n",
                    has(region, 0) ? "d < 0 || d >= a->in_d || " : "");
        sg_text_add(text, "            memset(row, 0, ROW@ * sizeof *row);\n"
                          "            continue;\n"
                          "        }\n"
                          "        from += ");
        if (has(region, 0))
            sg_text_add(text, "d * a->%s.d + ", by);
        sg_text_add(text, "h * a->%s.h;\n", by);
    }
    const char *element = sg_dtype_name(input->dtype);
    if (steps)
        sg_text_add(text,
                    "        for (int kw = 0; kw < KERNEL_W@; kw++)\n"
                    "            pack_steps_%s(row + kw * TAP@, from, a->%s.w, a->in_w, first + kw "
                    "* DILATION_W@,\n                           STRIDE_W@, RUN@);\n",
                    element, by);
    else
        sg_text_add(text, "        pack_row_%s(row, from, a->%s.w, a->in_w, first, ROW@);\n",
                    element, by);
    sg_text_add(text, "    }\n}\n\n");
}

static void write_contract(const sg_c_region *region, sg_text *text) {
    sg_text_add(
        text,
        "/* Products of `count` taps, summed in registers and added to totals. */\n"
        "static void add_products@(real (*restrict total)[RUN@], const real *restrict weights,\n"
        "    const real *restrict rows, const int *restrict taps, int count) {\n"
        "    real sum[BLOCK@][RUN@] = {{0}};\n"
        "    for (int i = 0; i < count; i++)\n"
        "        for (int o = 0; o < BLOCK@; o++)\n"
        "            for (int p = 0; p < RUN@; p++)\n"
        "                sum[o][p] = v_fma(weights[i * BLOCK@ + o], rows[taps[i] + p], "
        "sum[o][p]);\n"
        "    for (int o = 0; o < BLOCK@; o++)\n"
        "        for (int p = 0; p < RUN@; p++)\n"
        "            total[o][p] += sum[o][p];\n"
        "}\n\n"
        "/* The convolution for a run of pixels. Few products meet in one sum, and sums are added "
        "up after\n * that: so rounding errors grow far slower than their number (Higham, Accuracy "
        "and Stability of\n * Numerical Algorithms, section 4.2). */\n"
        "#if defined(__GNUC__) /* inside the loop nest it would lack registers */\n"
        "__attribute__((noinline))\n"
        "#endif\n"
        "static void contract@(struct tile@ *restrict t) {\n"
        "    for (int g = 0; g < GROUPS@; g++)\n"
        "        for (int block = 0; block < BLOCKS@; block++) {\n"
        "            const real *weights = t->weights + (g * BLOCKS@ + block) * PRODUCTS@ * "
        "BLOCK@;\n"
        "            real total[BLOCK@][RUN@] = {{0}};\n"
        "            for (int first = 0; first < PRODUCTS@; first += SPAN@)\n"
        "                add_products@(total, weights + first * BLOCK@, t->rows + g * ROWS@ * "
        "ROW@,\n"
        "                    t->taps + first, first + SPAN@ < PRODUCTS@ ? SPAN@ : PRODUCTS@ - "
        "first);\n"
        "            for (int o = 0; o < BLOCK@ && block * BLOCK@ + o < GROUP_OUT@; o++) {\n"
        "                const int c = g * GROUP_OUT@ + block * BLOCK@ + o;\n"
        "                for (int p = 0; p < RUN@; p++)\n");
    sg_text_add(
        text, "                    t->v%d[c][p] = total[o][p]%s;\n            }\n        }\n}\n\n",
        region->program.anchor, region->bias_view >= 0 ? " + t->bias[c]" : "");
}

void sg_c_write_convolution(const sg_c_region *region, sg_text *text) {
    write_pack_weights(region, text);
    write_pack_input(region, text);
    write_contract(region, text);
}
