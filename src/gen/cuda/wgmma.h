/* Text of the warpgroup product for one width, which PTX spells out register by register. */
#ifndef SEGUE_GEN_CUDA_WGMMA_H
#define SEGUE_GEN_CUDA_WGMMA_H

#include "base/text.h"
#include "segue.h"

/* `wgmma(float (&d)[n / 2], a, b, accumulate)`: d = a b, or d + a b, 64 rows by n columns by 16,
 * operands (SG_F16 or SG_BF16) in, floats out; n a multiple of 8 up to 256. a, b: descriptors
 * (kernels/cuda/wgmma.cuh). Issued, not waited for. */
void sg_cuda_write_wgmma(sg_text *text, int n, sg_dtype operands);
/* The same where a is a thread's four registers. */
void sg_cuda_write_wgmma_from_registers(sg_text *text, int n, sg_dtype operands);

#endif
