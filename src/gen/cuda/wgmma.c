#include "gen/cuda/wgmma.h"

enum { SUMS = 4 }; /* operands that are named at once */

/* Operands are numbered: the sums, a, b, accumulate. */
static void write(sg_text *text, int n, bool a_from_registers, sg_dtype operands) {
    const char *type = operands == SG_BF16 ? "bf16" : "f16";
    int sums = n / 2;
    int b = sums + (a_from_registers ? 4 : 1);
    if (text->length == 0) /* one for all that stand in a text */
        sg_text_add(text, "#define SUMS(i) "
                          "\"+f\"(d[i]), \"+f\"(d[i + 1]), \"+f\"(d[i + 2]), \"+f\"(d[i + 3])\n");
    sg_text_add(text,
                "__device__ __forceinline__ void wgmma(float (&d)[%d], %s,\n"
                "                                      unsigned long long b, int accumulate) {\n"
                "    asm volatile(\"{\\n\\t.reg .pred p;\\n\\tsetp.ne.b32 p, %%%d, 0;\\n\\t\"\n"
                "                 \"wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s {\"\n",
                sums, a_from_registers ? "const unsigned (&a)[4]" : "unsigned long long a", b + 1,
                n, type, type);
    for (int i = 0; i < sums; i++)
        sg_text_add(text, "%s%%%d%s", i % 16 == 0 ? "                 \"" : "", i,
                    i == sums - 1  ? "}, \"\n"
                    : i % 16 == 15 ? ", \"\n"
                                   : ", ");
    if (a_from_registers)
        sg_text_add(text,
                    "                 \"{%%%d, %%%d, %%%d, %%%d}, %%%d, p, 1, 1, 0;\\n\\t}\"\n",
                    sums, sums + 1, sums + 2, sums + 3, b);
    else
        sg_text_add(text, "                 \"%%%d, %%%d, p, 1, 1, 0, 0;\\n\\t}\"\n", sums, b);
    for (int i = 0; i < sums; i += SUMS)
        sg_text_add(text, "%sSUMS(%d)%s",
                    i == 0        ? "                 : "
                    : i % 32 == 0 ? "                   "
                                  : "",
                    i,
                    i + SUMS == sums       ? "\n"
                    : (i + SUMS) % 32 == 0 ? ",\n"
                                           : ", ");
    sg_text_add(text, "                 : %s, \"l\"(b), \"r\"(accumulate));\n}\n",
                a_from_registers ? "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])"
                                 : "\"l\"(a)");
}

void sg_cuda_write_wgmma(sg_text *text, int n, sg_dtype operands) {
    write(text, n, false, operands);
}

void sg_cuda_write_wgmma_from_registers(sg_text *text, int n, sg_dtype operands) {
    write(text, n, true, operands);
}
