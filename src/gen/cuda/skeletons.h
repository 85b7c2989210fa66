/* The files of kernels/cuda, held in the library as text; the build writes the table
 * (cmake/embed.cmake). */
#ifndef SEGUE_GEN_CUDA_SKELETONS_H
#define SEGUE_GEN_CUDA_SKELETONS_H

typedef struct sg_skeleton {
    const char *name; /* "conv_direct.cuh" */
    const char *text;
} sg_skeleton;

extern const sg_skeleton sg_skeletons[];
extern const int sg_skeleton_count;

#endif
